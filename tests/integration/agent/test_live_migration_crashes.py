# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent dies while it moves a running machine's disk. The machine does not notice; the next agent finishes the
move, and its sender gets one reply."""

from collections.abc import Callable, Iterator

import pytest

from integration.agent.copy_lab import CopyLab, Running
from integration.agent.crashing import assert_one_reply
from integration.agent.live_disk import DataDisk, data_disk, running_guest
from storpool_commands.copies import MigratedVolume, MigrateVolume

pytestmark = pytest.mark.long


@pytest.fixture
def disk(own_lab: CopyLab) -> Iterator[DataDisk]:
    with running_guest(own_lab) as guest, data_disk(own_lab, guest, "live/disk.qcow2") as made:
        yield made


def killed_in_the_middle(disk: DataDisk, command: MigrateVolume) -> MigratedVolume:
    job = disk.lab.begin(command)
    disk.lab.wait_until_copying(job)
    disk.lab.stack.agent.kill()
    disk.lab.stack.agent.start()
    return answered_once(disk, job)


def killed_at(point: str) -> Callable[[DataDisk, MigrateVolume], MigratedVolume]:
    def killed(disk: DataDisk, command: MigrateVolume) -> MigratedVolume:
        disk.lab.stack.agent.restart_to_crash_at(point)
        job = disk.lab.begin(command)
        disk.lab.stack.agent.wait_crashed()
        disk.lab.stack.agent.start()
        return answered_once(disk, job)

    return killed


def answered_once(disk: DataDisk, job: Running) -> MigratedVolume:
    moved: MigratedVolume = job.result()
    assert moved.copies == 2
    assert_one_reply(disk.lab.stack, job.request_id)
    return moved


def test_the_next_agent_finishes_what_a_killed_one_has_begun(disk: DataDisk) -> None:
    """In the middle of the copy, and when the machine uses the new place already."""
    disk.arrived_in_file(killed_in_the_middle(disk, disk.to_file(slowly=True)))
    disk.arrived_at_storpool(killed_in_the_middle(disk, disk.to_storpool(slowly=True)))
    disk.arrived_in_file(killed_at("migrateVolume/pivot:done")(disk, disk.to_file()))
    disk.arrived_at_storpool(killed_at("migrateVolume/pivot:done")(disk, disk.to_storpool()))
    disk.assert_nothing_lost()
