# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs on secondary storage that is full, gone, lost, read-only, frozen, or changed by others meanwhile."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from integration.agent import copy_jobs
from integration.agent.copies import DISK_BYTES, SLOW_BYTES_S, WAIT_S, Depot, running_depot
from integration.agent.copy_jobs import Make
from integration.agent.refusals import nothing_changes, refused
from nas import Nas, running_nas
from real_lab import wait_for
from storpool_commands.copies import BackupSnapshot, DownloadVolume
from storpool_commands.errors import ErrorCode
from storpool_commands.images import ImageFormat, ImageSource, StoredImage

pytestmark = pytest.mark.long

MIB = 1 << 20
COMMAND_TIMEOUT_S = 30.0


@dataclass
class Yard:
    """A server with a small disk, and a depot on its export."""

    nas: Nas
    depot: Depot

    @property
    def local(self) -> Depot:
        """The same files, as a directory of the host."""
        return replace(self.depot, store=f"file://{self.depot.files}")


@pytest.fixture(scope="module")
def stopped(nfs_client: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with running_nas("xfs", tmp_path_factory.mktemp("nas")) as nas:
        secondary = {"nfs_servers": [nas.server.name]}
        with running_depot(nas.files, store=nas.store, start=False, secondary=secondary) as depot:
            yield Yard(nas, depot)


@pytest.fixture
def failing(nfs_client: None, tmp_path: Path) -> Iterator[Yard]:
    """For a test that has its disk fail: nobody else's."""
    with running_nas("xfs", tmp_path) as nas, running_depot(nas.files, store=nas.store) as depot:
        yield Yard(nas, depot)


@pytest.fixture
def yard(stopped: Yard) -> Iterator[Yard]:
    with stopped.depot.running_agent():
        yield stopped


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=COMMAND_TIMEOUT_S)


def slow(depot: Depot, make: Make) -> tuple[copy_jobs.CopyJob, str]:
    """A job in the middle of its copy."""
    job = make(depot, bandwidth_bytes_s=SLOW_BYTES_S)
    request_id = depot.send(job.command)
    depot.wait_copying(request_id)
    return job, request_id


def end_of_another_copy(depot: Depot) -> None:
    """What was left over is tried again then, sooner than after its pause."""
    job = copy_jobs.backup(depot)
    job.result_of(depot.raw.reply(depot.send(job.command)))


@pytest.mark.parametrize("make", [copy_jobs.backup, copy_jobs.copy_volume, copy_jobs.template_from_volume])
def test_a_store_that_is_full_from_the_start_is_said_to_be(yard: Yard, make: Make) -> None:
    job = make(yard.local)
    yard.nas.disk.fill()
    reply = yard.depot.reply(yard.depot.send(job.command))
    yard.nas.disk.free()
    assert_full(reply)
    job.assert_not_done()


def test_a_store_that_fills_up_under_a_copy_keeps_nothing_of_it(yard: Yard) -> None:
    job, request_id = slow(yard.depot, copy_jobs.backup)
    yard.nas.disk.fill()
    reply = yard.depot.reply(request_id)
    yard.nas.disk.free()
    assert_full(reply)
    job.assert_not_done()


def assert_full(reply: dict[str, object]) -> None:
    refused(reply, ErrorCode.SECONDARY_FULL, says=("No space left on device",))
    facts = reply["facts"]
    assert isinstance(facts, dict)
    assert facts["free_bytes"] < DISK_BYTES


@pytest.mark.parametrize("make", [copy_jobs.backup, copy_jobs.download_volume])
def test_a_server_that_fails_ends_the_copy_and_what_it_keeps_goes_when_it_is_back(failing: Yard, make: Make) -> None:
    depot = failing.depot
    _job, request_id = slow(depot, make)
    failing.nas.disk.shut_down()
    reply = depot.raw.reply(request_id)
    left = depot.rows()
    assert depot.mounts() == []
    failing.nas.disk.mount_again()
    refused(reply, ErrorCode.SECONDARY_UNAVAILABLE, side_effects="partial" if left else "none")
    end_of_another_copy(depot)
    depot.wait_nothing_left()


def test_a_mount_that_is_lost_under_a_copy_leaves_nothing_in_the_directory_below(yard: Yard) -> None:
    depot = yard.depot
    _job, request_id = slow(depot, copy_jobs.backup)
    (point,) = (line.removeprefix("mount ") for line in depot.mounts())
    run("umount", "--lazy", point)
    reply = depot.raw.reply(request_id)
    refused(reply, ErrorCode.SECONDARY_UNAVAILABLE, says=(depot.store,), side_effects="partial")
    assert not [each for each in depot.mount_dir.rglob("*") if not each.is_dir()]
    end_of_another_copy(depot)
    depot.wait_nothing_left()


@pytest.fixture
def mounted(yard: Yard, tmp_path: Path) -> Iterator[Depot]:
    """A directory of the host that leads to another file system as long as somebody has that mounted there."""
    point = yard.depot.files / "mounted"
    point.mkdir()
    run("mount", "--bind", str(tmp_path), str(point))
    yield replace(yard.depot, files=point, store=f"file://{point}")
    if point.is_mount():
        run("umount", str(point))
    point.rmdir()


def test_a_directory_that_is_unmounted_under_a_copy_is_not_written_to(mounted: Depot, tmp_path: Path) -> None:
    """What was begun is left where nobody can look for it any more; it has no name there."""
    _job, request_id = slow(mounted, copy_jobs.backup)
    run("umount", "--lazy", str(mounted.files))
    refused(mounted.raw.reply(request_id), ErrorCode.SECONDARY_UNAVAILABLE, side_effects="partial")
    end_of_another_copy(replace(mounted, store=f"file://{mounted.files.parent}"))
    assert list(mounted.files.iterdir()) == []
    assert [each.name for each in tmp_path.rglob("*.qcow2")] == []
    mounted.assert_nothing_left()


@pytest.mark.parametrize("make", [copy_jobs.backup, copy_jobs.template_from_snapshot, copy_jobs.move_to_file])
def test_a_store_that_is_read_only_is_said_to_be(yard: Yard, make: Make) -> None:
    job = make(yard.local)
    run("mount", "-o", "remount,ro", str(yard.nas.disk.path))
    reply = yard.depot.reply(yard.depot.send(job.command))
    run("mount", "-o", "remount,rw", str(yard.nas.disk.path))
    refused(reply, ErrorCode.SECONDARY_READ_ONLY, says=("read-only",))
    job.assert_not_done()


@pytest.mark.parametrize("store", ["file:///etc", "nfs://elsewhere.test/export"])
def test_a_store_that_the_settings_do_not_allow_is_not_touched(yard: Yard, store: str) -> None:
    depot = yard.depot
    snapshot = depot.snapshot(bytes(MIB))
    with nothing_changes(depot.stack):
        for command in (
            BackupSnapshot(snapshot=snapshot, target=StoredImage(store=store, path="image")),
            DownloadVolume(source=ImageSource(store=store, path="hostname", format="raw"), template="dev"),
        ):
            reply = depot.reply(depot.send(command))
            refused(reply, ErrorCode.SECONDARY_NOT_ALLOWED, says=("settings",), facts={"store": store})


@pytest.mark.parametrize("make", [copy_jobs.backup, copy_jobs.copy_volume, copy_jobs.move_to_file])
def test_a_file_that_is_there_is_kept_and_nothing_is_copied(yard: Yard, make: Make) -> None:
    depot = yard.depot
    job = make(depot)
    assert job.image is not None
    there = depot.files / job.image.path
    there.parent.mkdir()
    there.write_text("somebody's")
    reply = depot.reply(depot.send(job.command))
    refused(reply, ErrorCode.FILE_EXISTS, facts={"store": depot.store, "path": job.image.path})
    assert "copy" not in {step["step"] for step in reply["steps"]}
    assert there.read_text() == "somebody's"
    there.unlink()
    job.assert_not_done()


def test_of_two_copies_to_one_path_one_wins(yard: Yard) -> None:
    depot = yard.depot
    first = copy_jobs.backup(depot, bandwidth_bytes_s=SLOW_BYTES_S * 4)
    second = copy_jobs.backup(depot, bandwidth_bytes_s=SLOW_BYTES_S * 4, target=first.image)
    requests = [depot.send(job.command) for job in (first, second)]
    for request_id in requests:
        depot.wait_copying(request_id)
    replies = [depot.raw.reply(request_id) for request_id in requests]
    depot.assert_nothing_left()
    (winner,) = (n for n, reply in enumerate(replies) if reply["status"] == "success")
    refused(replies[1 - winner], ErrorCode.FILE_EXISTS, facts={"store": depot.store, "path": first.command.target.path})
    assert depot.read(first.command.target.path, "qcow2") == (first, second)[winner].data


@pytest.mark.parametrize("make", [copy_jobs.download_volume, copy_jobs.download_template])
def test_a_source_that_is_gone_after_a_crash_is_not_found_and_its_volume_goes(yard: Yard, make: Make) -> None:
    depot = yard.depot
    job, request_id = slow(depot, make)
    depot.agent.kill()
    (depot.files / job.command.source.path).unlink()
    depot.agent.start()
    reply = depot.reply(request_id)
    refused(reply, ErrorCode.IMAGE_NOT_FOUND, says=(job.command.source.path,))
    assert set(depot.objects()) == job.objects


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_source_that_is_cut_off_under_the_copy_is_never_a_success(yard: Yard, image_format: ImageFormat) -> None:
    depot = yard.depot
    job = copy_jobs.download_volume(depot, bandwidth_bytes_s=SLOW_BYTES_S, image_format=image_format)
    request_id = depot.send(job.command)
    depot.wait_copying(request_id)
    os.truncate(depot.files / job.command.source.path, MIB)
    reply = depot.reply(request_id)
    assert reply["status"] == "failure"
    assert reply["code"] in {
        ErrorCode.COPY_MISMATCH,
        ErrorCode.COPY_FAILED,
        ErrorCode.IMAGE_NOT_FOUND,
        ErrorCode.SECONDARY_UNAVAILABLE,
    }
    assert set(depot.objects()) == job.objects


def test_a_store_that_stands_still_is_given_up(yard: Yard) -> None:
    """A frozen file system lets nobody who writes come back, not even by SIGKILL: as soon as it is thawed they end."""
    depot = yard.depot
    job = copy_jobs.backup(depot, bandwidth_bytes_s=SLOW_BYTES_S, stall_timeout_s=1)
    request_id = depot.send(job.command)
    depot.wait_copying(request_id)
    (writer,) = (pid for pid, name in depot.processes().items() if name == "qemu-img")
    run("fsfreeze", "--freeze", str(yard.nas.disk.path))
    try:
        wait_for(lambda: told_to_end(writer), WAIT_S)
    finally:
        run("fsfreeze", "--unfreeze", str(yard.nas.disk.path))
    reply = depot.reply(request_id)
    refused(reply, ErrorCode.COPY_STALLED, facts={"stall_timeout_s": 1.0})
    job.assert_not_done()


def told_to_end(pid: int) -> bool:
    """By a signal that waits for it; or its first thread has ended, and others wait in the kernel; or it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    fields = {name: value.split()[0] for name, _, value in (line.partition(":") for line in status) if value.split()}
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return fields["State"] == "Z" or any(pending & 1 << one - 1 for one in (signal.SIGTERM, signal.SIGKILL))
