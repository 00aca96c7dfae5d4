# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A row of the functionality table: a disk moves to another storage while its machine writes to it. No write is lost,
whoever dies or changes their mind meanwhile."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from guest import Disk, Guest, pattern, pattern_checksum
from integration.agent.copy_lab import MIB, SIZE, CopyLab, Running
from integration.agent.crashing import assert_one_reply
from storpool_commands.client import CommandFailed
from storpool_commands.copies import MigratedVolume, MigrateVolume
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, DetachDisk
from storpool_commands.errors import ErrorCode
from storpool_commands.images import StoredImage

SERIAL = "data"
SLOW_BYTES_S = 4 * MIB
"""The disk is full of data: it takes some seconds."""


@pytest.fixture(scope="module")
def guest(shared_lab: CopyLab) -> Iterator[Guest]:
    root = shared_lab.volume(size=16 * MIB)
    path = shared_lab.stack.call(ConnectPhysicalDisk(volume=root)).path
    with Guest([Disk(Path(path), "vda", serial="root")], persistent=True) as running:
        yield running


@dataclass
class DataDisk:
    """A disk of a running guest, which counts on it; it is at StorPool or in a file."""

    lab: CopyLab
    guest: Guest
    volume: str | None
    """Where it is, or was before it was moved to the file."""
    file: StoredImage
    name: str
    target: str
    uptime_s: float

    def to_file(self, *, slowly: bool = False, delete_source: bool = True) -> MigrateVolume:
        return MigrateVolume(
            volume=self.volume,
            target=self.file,
            vm=self.guest.uuid,
            delete_source=delete_source,
            bandwidth_bytes_s=SLOW_BYTES_S if slowly else None,
        )

    def to_storpool(self, *, slowly: bool = False) -> MigrateVolume:
        return MigrateVolume(
            source=self.file,
            source_format="qcow2",
            template="dev",
            vm=self.guest.uuid,
            delete_source=True,
            bandwidth_bytes_s=SLOW_BYTES_S if slowly else None,
        )

    def move_to_file(self) -> None:
        self.arrived_in_file(self.lab.stack.call(self.to_file()))

    def move_to_storpool(self) -> None:
        self.arrived_at_storpool(self.lab.stack.call(self.to_storpool()))

    def arrived_in_file(self, moved: MigratedVolume) -> None:
        assert (moved.method, moved.volume, moved.size_bytes, moved.source_deleted) == ("live", None, SIZE, True)
        assert moved.path == str(self.place)
        assert self.volume is not None
        assert self.lab.stack.attachments(self.volume) == []
        assert self.volume[1:] not in self.lab.volumes()
        self.runs_from(self.place)

    def arrived_at_storpool(self, moved: MigratedVolume) -> None:
        assert (moved.method, moved.size_bytes, moved.source_deleted) == ("live", SIZE, True)
        self.volume = f"~{moved.volume}"
        assert not self.place.exists()
        assert self.lab.stack.attachments(self.volume) == [(1, "rw")]
        assert self.lab.volumes()[self.volume[1:]]["cvm"] == self.guest.uuid
        self.runs_from(self.lab.stack.link(self.volume))

    @property
    def place(self) -> Path:
        return self.lab.local.files / self.file.path

    def runs_from(self, source: Path) -> None:
        """The same disk of the same machine, now and at its next start; and the guest goes on."""
        for inactive in (False, True):
            assert self.guest.disk_sources(inactive=inactive)[self.target] == source
        disk = self.guest.disks()[self.name]
        assert (disk.serial, disk.size_bytes, disk.readonly) == (SERIAL, SIZE, False)
        uptime_s = self.guest.uptime_s()
        assert uptime_s > self.uptime_s
        self.uptime_s = uptime_s
        self.guest.wait_for_counted(self.guest.counted() + 2)

    def take_out(self) -> tuple[int, bytes]:
        """The last number that the guest has written, and what is on the volume then."""
        last = self.guest.stop_counting()
        assert self.volume is not None
        self.lab.stack.call(DetachDisk(vm=self.guest.uuid, volume=self.volume))
        self.guest.wait_until_gone(SERIAL)
        return last, self.lab.read(volume=self.volume)


@pytest.fixture
def disk(lab: CopyLab, guest: Guest, request: pytest.FixtureRequest) -> Iterator[DataDisk]:
    """At StorPool, full of data. Taken out of the machine when the test has not done that."""
    volume = lab.volume(FULL)
    attached = lab.stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial=SERIAL))
    name = guest.wait_for_disk(SERIAL).name
    guest.count_on(name)
    guest.wait_for_counted(1)
    file = lab.local.image(f"live/{request.node.name.partition('[')[0]}.qcow2")
    yield DataDisk(lab, guest, volume, file, name, attached.target, guest.uptime_s())
    if attached.target in guest.disk_sources():
        guest.stop_counting()
        guest.unplug(attached.target)
        guest.wait_until_gone(SERIAL)


FULL = pattern(0, 19, "full")[:SIZE]


def assert_nothing_lost(disk: DataDisk, *, written: dict[int, str] | None = None) -> None:
    """The volume has the last number that was written, what was written to each MiB last, and else what it had."""
    last, data = disk.take_out()
    assert int(data[:511]) == last
    expected = bytearray(FULL)
    expected[:512] = data[:512]
    for mib, seed in (written or {}).items():
        expected[mib * MIB : (mib + 1) * MIB] = pattern(mib, 1, seed)
    assert data == expected


def test_a_disk_moves_to_a_file_and_back_while_its_guest_writes(disk: DataDisk) -> None:
    written: dict[int, str] = {}
    disk.arrived_in_file(write_during(disk, disk.lab.begin(disk.to_file(slowly=True)), written))
    assert_guest_reads(disk, written)
    disk.arrived_at_storpool(write_during(disk, disk.lab.begin(disk.to_storpool(slowly=True)), written))
    assert_guest_reads(disk, written)
    assert_nothing_lost(disk, written=written)


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


def assert_guest_reads(disk: DataDisk, written: dict[int, str]) -> None:
    for mib, seed in written.items():
        assert disk.guest.checksum(disk.name, mib, 1) == pattern_checksum(mib, 1, seed)
    untouched = next(mib for mib in range(1, 19) if mib not in written) if len(written) < 17 else None
    if untouched is not None:
        expected = sha256(FULL[untouched * MIB : (untouched + 1) * MIB]).hexdigest()
        assert disk.guest.checksum(disk.name, untouched, 1) == expected


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
    assert_nothing_lost(disk)


def test_a_move_to_storpool_that_is_cancelled_leaves_all_as_it_was(disk: DataDisk) -> None:
    disk.move_to_file()
    there = disk.lab.volumes(), disk.lab.snapshots(), disk.lab.attached(), disk.lab.local.names()
    job = disk.lab.begin(disk.to_storpool(slowly=True))
    disk.lab.wait_until_copying(job)
    cancelled(disk, job)
    assert (disk.lab.volumes(), disk.lab.snapshots(), disk.lab.attached(), disk.lab.local.names()) == there
    disk.runs_from(disk.place)
    disk.move_to_storpool()
    assert_nothing_lost(disk)


def killed_in_the_middle(disk: DataDisk, command: MigrateVolume) -> MigratedVolume:
    job = disk.lab.begin(command)
    disk.lab.wait_until_copying(job)
    disk.lab.stack.agent.kill()
    disk.lab.stack.agent.start()
    return answered_once(disk, job)


def killed_after_the_pivot(disk: DataDisk, command: MigrateVolume) -> MigratedVolume:
    disk.lab.stack.agent.restart_to_crash_at("migrateVolume/pivot:done")
    job = disk.lab.begin(command)
    disk.lab.stack.agent.wait_crashed()
    disk.lab.stack.agent.start()
    return answered_once(disk, job)


def answered_once(disk: DataDisk, job: Running) -> MigratedVolume:
    moved: MigratedVolume = job.result()
    assert_one_reply(disk.lab.stack, job.request_id)
    return moved


@pytest.mark.parametrize("killed", [killed_in_the_middle, killed_after_the_pivot])
def test_the_next_agent_finishes_what_a_killed_one_has_begun(
    disk: DataDisk, killed: Callable[[DataDisk, MigrateVolume], MigratedVolume]
) -> None:
    disk.arrived_in_file(killed(disk, disk.to_file(slowly=True)))
    disk.arrived_at_storpool(killed(disk, disk.to_storpool(slowly=True)))
    assert_nothing_lost(disk)
