# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Loop devices: the only module that knows their ioctls.

Measured on Linux 6.18 (udev 252): LOOP_CTL_ADD makes the uevent `add`, LOOP_CONFIGURE `change`, LOOP_SET_CAPACITY
`change` with RESIZE=1, LOOP_CTL_REMOVE `remove`. That is why devices are added and removed rather than reused.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

LOOP_MAJOR = 7
FIRST_NUMBER = 1000  # below live the devices that losetup and mount pick
LAST_NUMBER = 200_000
LOCK_FILE = "/run/storpool-devcluster.lock"  # shared by all on this machine
SECTOR_BYTES = 512  # a larger logical block refuses volumes that are not a multiple of it

_CTL_ADD, _CTL_REMOVE = 0x4C80, 0x4C81
_CLR_FD, _SET_STATUS64, _GET_STATUS64, _SET_CAPACITY, _CONFIGURE = 0x4C01, 0x4C04, 0x4C05, 0x4C07, 0x4C0A
_BLKROSET, _BLKFLSBUF = 0x125D, 0x1261
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
_INFO64 = struct.Struct("<QQQQQIIII64s64s32sQQ")
_OFFSET, _FLAGS = 3, 8


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """One loop device, named by its number: no file descriptor is held while it exists."""

    number: int

    @property
    def path(self) -> Path:
        return Path(f"/dev/loop{self.number}")

    @property
    def backing_name(self) -> str:
        """The path of the backing file inside its own mount; empty when nothing is bound."""
        try:
            return Path(f"/sys/block/loop{self.number}/loop/backing_file").read_text().rstrip("\n")
        except FileNotFoundError:
            return ""

    def open(self, flags: int = os.O_RDONLY) -> int:
        return os.open(f"/dev/loop{self.number}", flags | os.O_CLOEXEC)

    def device_number(self) -> int:
        return self.path.stat().st_rdev

    def configure(
        self, backing_fd: int, *, read_only: bool = False, autoclear: bool = False, direct: bool = True
    ) -> int:
        """Bind the file and return the open device. The kernel drops direct I/O where the file system cannot."""
        flags = (_DIRECT_IO if direct else 0) | (_READ_ONLY if read_only else 0) | (_AUTOCLEAR if autoclear else 0)
        info = _INFO64.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, b"", b"", b"", 0, 0)
        fd = self.open(os.O_RDONLY if read_only else os.O_RDWR)
        try:
            fcntl.ioctl(fd, _CONFIGURE, struct.pack("<II", backing_fd, SECTOR_BYTES) + info + bytes(64))
        except OSError:
            os.close(fd)
            raise
        return fd

    def take_capacity(self) -> None:
        """Follow the size of the backing file; those who have the device open see it at once."""
        self._ioctl(_SET_CAPACITY)

    def set_read_only(self, read_only: bool) -> None:
        self._ioctl(_BLKROSET, struct.pack("i", int(read_only)))

    def starve(self, file_size_bytes: int) -> None:
        """Leave no capacity behind an open device: writes fail with ENOSPC, reads are empty."""
        fd = self.open()
        try:
            info = list(_INFO64.unpack(fcntl.ioctl(fd, _GET_STATUS64, bytes(_INFO64.size))))
            info[_OFFSET] = file_size_bytes
            fcntl.ioctl(fd, _SET_STATUS64, _INFO64.pack(*info))
        finally:
            os.close(fd)

    def _ioctl(self, request: int, argument: int | bytes = 0) -> None:
        fd = self.open()
        try:
            fcntl.ioctl(fd, request, argument)
        finally:
            os.close(fd)


class Claim:
    """A loop device told to let its file go, with proof of who else has it open.

    LOOP_CLR_FD never fails for an open device: with other openers it only marks it to be cleared at the last
    close, and alone it clears it when this descriptor closes. GET_STATUS64 tells the two apart (ENXIO = alone),
    without a race and across process and mount namespaces. That beats a scan of /proc, which sees neither
    mounts nor what opens the device a moment later.
    """

    def __init__(self, device: LoopDevice) -> None:
        self.device = device
        self._fd = device.open()
        try:
            # A writer that closed while udev was looking left its pages dirty: they are lost once the file is gone.
            fcntl.ioctl(self._fd, _BLKFLSBUF)
            fcntl.ioctl(self._fd, _CLR_FD)
            self.others = self._is_bound()
        except OSError as error:
            os.close(self._fd)
            if error.errno != errno.ENXIO:
                raise
            self._fd, self.others = -1, False

    def keep(self) -> None:
        """Take the mark back: the device stays as it was. Only for a device that others have open."""
        info = list(_INFO64.unpack(fcntl.ioctl(self._fd, _GET_STATUS64, bytes(_INFO64.size))))
        info[_FLAGS] &= ~_AUTOCLEAR
        fcntl.ioctl(self._fd, _SET_STATUS64, _INFO64.pack(*info))
        self.close()

    def close(self) -> None:
        """Let go: the file is released now, or by the last of the others."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_bound(self) -> bool:
        try:
            fcntl.ioctl(self._fd, _GET_STATUS64, bytes(_INFO64.size))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return False
            raise
        return True


class LoopControl:
    """Makes and removes loop devices. Several processes may do so at once: the kernel hands out each number once."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        self._next = FIRST_NUMBER
        self._lock = Lock()

    def bind(
        self, backing_fd: int, *, read_only: bool = False, autoclear: bool = False, direct: bool = True
    ) -> tuple[LoopDevice, int]:
        """A new device over the file, and its open descriptor."""
        with _number_lock(fcntl.LOCK_SH):
            device = self._add()
            try:
                return device, device.configure(backing_fd, read_only=read_only, autoclear=autoclear, direct=direct)
            except OSError:
                self.remove(device)
                raise

    def remove(self, device: LoopDevice) -> bool:
        """False while somebody still has it open."""
        try:
            fcntl.ioctl(self._fd, _CTL_REMOVE, device.number)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            if error.errno != errno.ENODEV:
                raise
        return True

    def sweep(self) -> None:
        """Remove the numbers without a file that killed processes left."""
        with _number_lock(fcntl.LOCK_EX):
            for path in Path("/sys/block").glob("loop*"):
                device = LoopDevice(int(path.name.removeprefix("loop")))
                if device.number >= FIRST_NUMBER and not (path / "loop").exists():
                    self.remove(device)

    def close(self) -> None:
        os.close(self._fd)

    def _add(self) -> LoopDevice:
        for _ in range(FIRST_NUMBER, LAST_NUMBER):
            try:
                return LoopDevice(fcntl.ioctl(self._fd, _CTL_ADD, self._take_number()))
            except FileExistsError:
                continue
        raise OSError(errno.ENODEV, "no free loop device number")

    def _take_number(self) -> int:
        with self._lock:
            number = self._next
            self._next = FIRST_NUMBER if number + 1 >= LAST_NUMBER else number + 1
        return number


@contextmanager
def _number_lock(mode: int) -> Generator[None]:
    """Between adding a number and binding a file it looks like one that was left behind."""
    fd = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, mode)
        yield
    finally:
        os.close(fd)


def bound_devices() -> list[LoopDevice]:
    """Every loop device of this machine that has a backing file."""
    found = Path("/sys/block").glob("loop*/loop/backing_file")
    return [LoopDevice(int(path.parent.parent.name.removeprefix("loop"))) for path in found]
