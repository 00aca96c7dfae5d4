# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A row of the functionality table: a disk moves to another storage while its machine writes to it. No write is lost,
also when somebody changes their mind meanwhile."""

from collections.abc import Iterator
from itertools import count

import pytest

from guest import Guest
from integration.agent.copy_lab import CopyLab, Running
from integration.agent.live_disk import FULL, DataDisk, data_disk, running_guest
from storpool_commands.client import CommandFailed
from storpool_commands.copies import MigratedVolume
from storpool_commands.errors import ErrorCode

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def guest(shared_lab: CopyLab) -> Iterator[Guest]:
    with running_guest(shared_lab) as running:
        yield running


@pytest.fixture
def disk(lab: CopyLab, guest: Guest, request: pytest.FixtureRequest) -> Iterator[DataDisk]:
    with data_disk(lab, guest, f"live/{request.node.name}.qcow2") as made:
        yield made


def test_a_disk_moves_to_a_file_and_back_while_its_guest_writes(disk: DataDisk) -> None:
    written: dict[int, str] = {}
    disk.arrived_in_file(write_during(disk, disk.lab.begin(disk.to_file(slowly=True)), written))
    disk.assert_guest_reads(written)
    disk.arrived_at_storpool(write_during(disk, disk.lab.begin(disk.to_storpool(slowly=True)), written))
    disk.assert_guest_reads(written)
    disk.assert_nothing_lost(written)


def write_during(disk: DataDisk, job: Running, written: dict[int, str]) -> MigratedVolume:
    """Have the guest write here and there until the job has ended; `written` says what each MiB has then."""
    for number in count():
        mib = 1 + number * 7 % 17
        written[mib] = f"during-{job.request_id}-{number}"
        disk.guest.write(disk.name, mib, 1, written[mib])
        if job.reply.done():
            break
    moved: MigratedVolume = job.result()
    return moved


def test_a_source_that_is_not_to_be_deleted_stays_as_it_was_at_the_end(disk: DataDisk) -> None:
    before = disk.volume
    moved = disk.lab.stack.call(disk.to_file(delete_source=False))
    assert (moved.method, moved.source_deleted, disk.lab.stack.attachments(str(before))) == ("live", False, [])
    disk.runs_from(disk.place)
    left = disk.lab.read(volume=before)
    disk.move_to_storpool()
    last, data = disk.take_out()
    assert 1 <= int(left[:511]) < int(data[:511]) == last
    assert left[512:] == data[512:] == FULL[512:]


def cancelled(disk: DataDisk, job: Running) -> None:
    assert disk.lab.stack.management.cancel(job.request_id, host=disk.lab.stack.host).outcome == "stopping"
    with pytest.raises(CommandFailed) as failure:
        job.result()
    assert (failure.value.code, failure.value.side_effects) == (ErrorCode.CANCELLED, "none")


def test_a_move_to_a_file_that_is_cancelled_leaves_all_as_it_was(disk: DataDisk) -> None:
    there = disk.lab.volumes(), disk.lab.snapshots(), disk.lab.attached(), disk.lab.local.names()
    job = disk.lab.begin(disk.to_file(slowly=True))
    disk.lab.wait_until_copying(job)
    cancelled(disk, job)
    assert (disk.lab.volumes(), disk.lab.snapshots(), disk.lab.attached(), disk.lab.local.names()) == there
    disk.runs_from(disk.lab.stack.link(str(disk.volume)))
    disk.assert_nothing_lost()


def test_a_move_to_storpool_that_is_cancelled_leaves_all_as_it_was(disk: DataDisk) -> None:
    disk.move_to_file()
    there = disk.lab.volumes(), disk.lab.snapshots(), disk.lab.attached(), disk.lab.local.names()
    job = disk.lab.begin(disk.to_storpool(slowly=True))
    disk.lab.wait_until_copying(job)
    cancelled(disk, job)
    assert (disk.lab.volumes(), disk.lab.snapshots(), disk.lab.attached(), disk.lab.local.names()) == there
    disk.runs_from(disk.place)
    disk.move_to_storpool()
    disk.assert_nothing_lost()
