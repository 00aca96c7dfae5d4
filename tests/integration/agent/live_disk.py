# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A disk that moves while its guest writes to it."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from guest import Disk, Guest, pattern
from integration.agent.copy_lab import MIB, SIZE, CopyLab
from storpool_commands.copies import MigratedVolume, MigrateVolume
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, DetachDisk
from storpool_commands.images import StoredImage

SERIAL = "data"
SLOW_BYTES_S = 4 * MIB
"""The disk is full of data: it takes some seconds."""
FULL = pattern(0, 19, "full")[:SIZE]


@contextmanager
def running_guest(lab: CopyLab) -> Generator[Guest]:
    root = lab.volume(size=16 * MIB)
    path = lab.stack.call(ConnectPhysicalDisk(volume=root)).path
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

    def assert_guest_reads(self, written: dict[int, str]) -> None:
        """All but the first MiB, where it counts."""
        whole_mib = SIZE // MIB
        expected = sha256(contents_with(written)[MIB : whole_mib * MIB]).hexdigest()
        assert self.guest.checksum(self.name, 1, whole_mib - 1) == expected

    def assert_nothing_lost(self, written: dict[int, str] | None = None) -> None:
        """The volume has the last number that was written, what was written to each MiB last, and else what it had."""
        last, data = self.take_out()
        assert int(data[:511]) == last
        assert data[512:] == contents_with(written or {})[512:]


def contents_with(written: dict[int, str]) -> bytes:
    """What the disk has when the guest has written these patterns, by the MiB that they are at."""
    data = bytearray(FULL)
    for mib, seed in written.items():
        data[mib * MIB : (mib + 1) * MIB] = pattern(mib, 1, seed)
    return bytes(data)


@contextmanager
def data_disk(lab: CopyLab, guest: Guest, file: str) -> Generator[DataDisk]:
    """At StorPool, full of data. Taken out of the machine when the test has not done that."""
    volume = lab.volume(FULL)
    attached = lab.stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial=SERIAL))
    try:
        name = guest.wait_for_disk(SERIAL).name
        guest.count_on(name)
        guest.wait_for_counted(1)
        yield DataDisk(lab, guest, volume, lab.local.image(file), name, attached.target, guest.uptime_s())
    finally:
        if attached.target in guest.disk_sources():
            guest.stop_counting()
            guest.unplug(attached.target)
            guest.wait_until_gone(SERIAL)
