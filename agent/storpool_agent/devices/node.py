# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Looking at one device node: opened once, and everything read from that one opening."""

import errno
import os
import stat
import struct
from fcntl import ioctl
from pathlib import Path

from storpool_agent.devices.model import Device
from storpool_agent.errors import DeviceMismatch
from storpool_commands.disks import Mode

# linux/fs.h
BLKROGET = 0x125E
BLKGETSIZE64 = 0x80081272
BLKGETDISKSEQ = 0x80081280

LOOKS = 3  # a link is replaced by one rename; one that moves under each of these looks is not ours to follow
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV)
"""No link, no node, or a node whose device has left it."""


def look(link: Path, root: Path) -> Device | None:
    """The device behind the link; None when there is no link or nothing behind it.

    Raises DeviceMismatch for what is there and is no block device under the root, or does not open.
    """
    for _ in range(LOOKS):
        try:
            node = os.path.realpath(link, strict=True)
            device = _open_and_read(link, node, root)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise _refusal(link, f"cannot be opened: {error.strerror}") from error
        if device is not None:
            return device
    raise _refusal(link, "leads somewhere else at each look")


def leads_to(link: Path) -> str | None:
    """Where the link says that the node is, for a message. None when there is no link."""
    try:
        return str(link.readlink())
    except OSError:
        return str(link) if link.exists() else None


def open_same(device: Device, mode: Mode) -> int:
    """A descriptor of the device, whatever its node leads to by now.

    Raises DeviceMismatch when it has become another device, has another size, or does not open.
    """
    flags = (os.O_RDWR if mode == "rw" else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    link = Path(device.link)
    try:
        opened = os.open(device.node, flags)
    except OSError as error:
        raise _refusal(link, f"leads to {device.node}, which cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(opened)
        if not stat.S_ISBLK(status.st_mode) or (status.st_rdev, _sequence(opened)) != (device.number, device.sequence):
            raise _refusal(link, f"was {device.node}, which has become another device")
        size_bytes = _number(opened, BLKGETSIZE64, "=Q")
        if size_bytes != device.size_bytes:
            raise _refusal(link, f"had {device.size_bytes} bytes and has {size_bytes} now")
    except BaseException:
        os.close(opened)
        raise
    return opened


def is_still(device: Device) -> bool:
    """Whether its node is there and is the same device: number and name may belong to another by now."""
    try:
        status = os.lstat(device.node)
    except FileNotFoundError:
        return False
    same = stat.S_ISBLK(status.st_mode) and status.st_rdev == device.number
    return same and _sequence_in_sysfs(device.number) == device.sequence


def _sequence_in_sysfs(number: int) -> int | None:
    """Read without opening the device. None when there is no such device."""
    path = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    try:
        return int((path / "diskseq").read_text())
    except FileNotFoundError:  # before Linux 5.15 there is no such file
        return 0 if path.exists() else None


def _open_and_read(link: Path, node: str, root: Path) -> Device | None:
    """None when the link has moved meanwhile."""
    if not Path(node).is_relative_to(os.path.realpath(root)):
        raise _refusal(link, f"leads to {node}, which is not under {root}")
    if not stat.S_ISBLK(os.lstat(node).st_mode):  # some devices act on being opened: look before
        raise _refusal(link, f"leads to {node}, which is no block device")
    opened = os.open(node, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        number = os.fstat(opened).st_rdev
        device = Device(
            link=str(link),
            node=node,
            number=number,
            sequence=_sequence(opened),
            size_bytes=_number(opened, BLKGETSIZE64, "=Q"),
            mode="ro" if _number(opened, BLKROGET, "=i") else "rw",
        )
        same = os.path.realpath(link, strict=True) == node and os.lstat(node).st_rdev == number
        return device if same else None
    finally:
        os.close(opened)


def _sequence(opened: int) -> int:
    try:
        return _number(opened, BLKGETDISKSEQ, "=Q")
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return 0  # Linux before 5.15


def _number(opened: int, request: int, form: str) -> int:
    answer = ioctl(opened, request, bytes(struct.calcsize(form)))
    (value,) = struct.unpack(form, answer)
    return int(value)


def _refusal(link: Path, why: str) -> DeviceMismatch:
    return DeviceMismatch(f"{link} {why}", path=str(link))
