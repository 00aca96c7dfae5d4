# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs beside machines: a copy takes from no machine what it uses, and a move keeps a guest's disk whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guest import Disk, Guest, SilentGuest
from integration.agent import copy_jobs
from integration.agent.copies import DISK_BYTES, MIB, SLOW_BYTES_S, Depot, disk, running_depot
from integration.agent.crashing import through_a_crash
from integration.agent.refusals import refused
from storpool_commands.copies import CopyVolumeToSecondary, MigrateVolume
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk
from storpool_commands.errors import ErrorCode
from storpool_commands.images import StoredImage

pytestmark = pytest.mark.long

WRITTEN_MIB = 4


@pytest.fixture(scope="module")
def stopped(run_directory: Path, tmp_path_factory: pytest.TempPathFactory, services: None) -> Iterator[Depot]:
    files = run_directory / "machines"  # where QEMU may enter, whoever it runs as
    files.mkdir()
    with running_depot(files, start=False) as depot:
        yield depot


@pytest.fixture
def depot(stopped: Depot) -> Iterator[Depot]:
    with stopped.running_agent():
        yield stopped


def attached(depot: Depot, reference: str) -> list[tuple[int, str]]:
    return depot.stack.attachments(reference)


def slow_backup(depot: Depot) -> tuple[copy_jobs.CopyJob, str]:
    job = copy_jobs.backup(depot, bandwidth_bytes_s=SLOW_BYTES_S)
    request_id = depot.send(job.command)
    depot.wait_copying(request_id)
    return job, request_id


@pytest.mark.parametrize("how", ["done", "cancelled", "killed"])
def test_a_snapshot_that_a_machine_uses_meanwhile_is_left_to_it(depot: Depot, how: str) -> None:
    """Somebody has started the machine by hand: no command has asked for the attachment."""
    job, request_id = slow_backup(depot)
    snapshot = job.command.snapshot
    with SilentGuest([Disk(depot.stack.link(snapshot), "vda", readonly=True)]):
        if how == "cancelled":
            depot.cancel(request_id)
        if how == "killed":
            depot.agent.kill()
            depot.agent.start()
        reply = depot.raw.reply(request_id)
        assert reply["status"] == ("failure" if how == "cancelled" else "success")
        assert attached(depot, snapshot) == [(1, "ro")]
        assert depot.rows() == []
    depot.stack.call(DisconnectPhysicalDisk(snapshot=snapshot))
    depot.assert_nothing_left()


def test_a_snapshot_that_two_jobs_copy_stays_attached_when_the_one_that_attached_it_is_cancelled(depot: Depot) -> None:
    first, request_id = slow_backup(depot)
    other = depot.send(first.command.model_copy(update={"target": depot.target()}))
    depot.wait_copying(other)
    depot.cancel(request_id)
    refused(depot.raw.reply(request_id), ErrorCode.CANCELLED)
    assert attached(depot, first.command.snapshot) == [(1, "ro")]
    assert depot.reply(other)["status"] == "success"


def test_a_volume_is_copied_while_its_machine_writes_to_it(depot: Depot) -> None:
    data = disk(32 * MIB)
    volume = depot.volume(data)
    path = Path(depot.stack.call(ConnectPhysicalDisk(volume=volume)).path)
    target = depot.target("raw")
    with Guest([Disk(path, "vda")]) as guest:
        guest.write("vda", 8, WRITTEN_MIB, "before")
        before = depot.contents(volume)
        request_id = depot.send(
            CopyVolumeToSecondary(volume=volume, target=target, format="raw", bandwidth_bytes_s=8 * SLOW_BYTES_S)
        )
        depot.wait_copying(request_id)
        guest.write("vda", 0, WRITTEN_MIB, "meanwhile")
        assert depot.raw.reply(request_id)["status"] == "success"
        assert depot.read(target.path, "raw") == before
        assert attached(depot, volume) == [(1, "rw")]
        assert guest.disk_sources() == {"vda": path}
    depot.stack.call(DisconnectPhysicalDisk(volume=volume))
    depot.assert_nothing_left()


def test_a_volume_that_is_attached_is_not_moved_as_if_nobody_used_it(depot: Depot) -> None:
    job = copy_jobs.move_to_file(depot)
    volume = job.command.volume
    depot.stack.call(ConnectPhysicalDisk(volume=volume))
    refused(depot.raw.reply(depot.send(job.command)), ErrorCode.VOLUME_BUSY, facts={"clients": ["1"]})
    assert attached(depot, volume) == [(1, "rw")]
    depot.stack.call(DisconnectPhysicalDisk(volume=volume))
    depot.assert_nothing_left()
    job.assert_not_done()


# disks of running machines, on the move


@pytest.fixture
def guest(depot: Depot) -> Iterator[Guest]:
    """With a disk that is a volume, and something written to it."""
    volume = depot.volume(bytes(DISK_BYTES))
    path = Path(depot.stack.call(ConnectPhysicalDisk(volume=volume)).path)
    with Guest([Disk(path, "vda")]) as running:
        running.write("vda", 0, WRITTEN_MIB, "guest")
        yield running
    for left in depot.stack.storpool.call("GET", "AttachmentsList"):
        depot.stack.storpool.detach(left["globalId"])


def to_file(depot: Depot, guest: Guest, **options: Any) -> MigrateVolume:
    target = depot.target("raw")
    volume = f"~{source(guest).name}"
    options = {"format": "raw", "delete_source": True, **options}
    return MigrateVolume(volume=volume, vm=guest.uuid, target=target, **options)


def to_storpool(depot: Depot, guest: Guest, **options: Any) -> MigrateVolume:
    file = StoredImage(store=depot.store, path=str(source(guest).relative_to(depot.files)))
    options = {"source_format": "raw", "delete_source": True, **options}
    return MigrateVolume(source=file, vm=guest.uuid, template="dev", **options)


def source(guest: Guest) -> Path:
    return guest.disk_sources()["vda"]


POINTS = [
    pytest.param("making-moving", "making-moving", id="the machine may use the new one"),
    pytest.param("detach:done", "release:done", id="one is given up, one given free"),
    pytest.param("delete:done", "delete:done", id="the old one is deleted"),
]


@pytest.mark.parametrize(("there", "back"), POINTS)
def test_a_running_machines_disk_moves_once_there_and_back(depot: Depot, guest: Guest, there: str, back: str) -> None:
    depot.agent.stop()
    before, files, written = set(depot.objects()), depot.names(), guest.checksum("vda", 0, WRITTEN_MIB)
    volume = source(guest).name
    try:
        result = through_a_crash(depot.stack, to_file(depot, guest), f"migrateVolume/{there}")
        assert (result.method, result.source_deleted, result.path) == ("live", True, str(source(guest)))
        assert source(guest).is_relative_to(depot.files)
        assert set(depot.objects()) == before - {volume}
        assert depot.left() == []
        result = through_a_crash(depot.stack, to_storpool(depot, guest), f"migrateVolume/{back}")
        assert (result.method, result.source_deleted, result.volume) == ("live", True, source(guest).name)
        assert set(depot.objects()) == before - {volume} | {result.volume}
        assert depot.stack.attachments(f"~{result.volume}") == [(1, "rw")]
        assert depot.names() == files
        assert guest.checksum("vda", 0, WRITTEN_MIB) == written
        guest.write("vda", WRITTEN_MIB, 1, "afterwards")
        assert depot.rows() == []
    finally:
        depot.agent.start()


def test_a_mirror_goes_on_without_the_agent_and_the_next_one_ends_it(depot: Depot, guest: Guest) -> None:
    """A stop leaves it alone: what has been copied is not copied again."""
    volume, written = source(guest).name, guest.checksum("vda", 0, WRITTEN_MIB)
    request_id = depot.send(to_file(depot, guest, bandwidth_bytes_s=SLOW_BYTES_S))
    depot.wait_copying(request_id)
    assert depot.agent.stop() == 0
    assert source(guest).name == volume
    depot.agent.start()
    reply = depot.reply(request_id)
    assert (reply["status"], reply["result"]["copies"]) == ("success", 2), reply
    assert source(guest).is_relative_to(depot.files)
    assert guest.checksum("vda", 0, WRITTEN_MIB) == written
    assert volume not in depot.objects()
    assert depot.agent.events("mirror found")
