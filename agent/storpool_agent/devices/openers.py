# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who keeps a block device from being detached: open files, mounts, and devices made on top of it."""

import os
import stat
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from storpool_commands.disks import Holder

PROC = Path("/proc")
UDEV = frozenset({"(udev-worker)", "systemd-udevd"})  # they look at every new device, for milliseconds
OWN_LOOK_S = 0.02  # this agent's own looks at a device are over by then


def of(number: int) -> list[Holder]:
    """All that is found at this moment. A process that ends meanwhile is left out."""
    numbers = {number, *_partitions(number)}
    return [*_processes(numbers), *_mounts(numbers), *_devices(numbers)]


def _partitions(number: int) -> list[int]:
    """A partition that is open keeps the whole disk."""
    return [_number((entry / "dev").read_text()) for entry in _sysfs(number).glob("*/partition/..")]


def _processes(numbers: set[int]) -> Iterator[Holder]:
    for pid in _pids():
        if not _has_open(pid, numbers):
            continue
        if pid == os.getpid() and not _keeps_open(pid, numbers):
            continue
        name = _text(PROC / str(pid) / "comm").strip()
        if name not in UDEV:
            guest = _guest(pid)
            yield Holder(kind="vm", name=guest, pid=pid) if guest else Holder(kind="process", name=name, pid=pid)


def _keeps_open(pid: int, numbers: set[int]) -> bool:
    time.sleep(OWN_LOOK_S)
    return _has_open(pid, numbers)


def _has_open(pid: int, numbers: set[int]) -> bool:
    try:
        with os.scandir(f"{PROC}/{pid}/fd") as entries:
            return any(_opens(entry, numbers) for entry in entries)
    except OSError:  # it has ended
        return False


def _opens(entry: os.DirEntry[str], numbers: set[int]) -> bool:
    """By number: in another mount namespace (QEMU's) the device has another name."""
    try:
        status = entry.stat()
    except OSError:  # closed meanwhile
        return False
    return stat.S_ISBLK(status.st_mode) and status.st_rdev in numbers


def _guest(pid: int) -> str | None:
    """The name that libvirt gives its QEMU: `-name guest=NAME,...`, commas in it doubled."""
    arguments = _text(PROC / str(pid) / "cmdline").split("\0")
    for option, value in pairwise(arguments):
        if option == "-name" and value.startswith("guest="):
            name = value.removeprefix("guest=").replace(",,", "\0").split(",")[0]
            return name.replace("\0", ",")
    return None


def _mounts(numbers: set[int]) -> Iterator[Holder]:
    """In every mount namespace: a daemon that started while a file system was mounted keeps a copy of the mount."""
    seen: set[str] = set()
    own = _namespace(os.getpid())
    for pid in (os.getpid(), *_pids()):
        namespace = _namespace(pid)
        if namespace is None or namespace in seen:
            continue
        seen.add(namespace)
        for point in _mount_points(pid, numbers):
            yield Holder(kind="mount", name=point, pid=None if namespace == own else pid)


def _mount_points(pid: int, numbers: set[int]) -> Iterator[str]:
    for line in _text(PROC / str(pid) / "mountinfo").splitlines():
        mounted, _, described = line.partition(" - ")
        fields = mounted.split()
        source = described.split()[1] if len(described.split()) > 1 else ""
        if _number(fields[2]) in numbers or _is_device(source, numbers):
            yield fields[4]


def _is_device(source: str, numbers: set[int]) -> bool:
    """btrfs shows a number of its own, but the right source."""
    if not source.startswith("/dev/"):
        return False
    try:
        status = Path(source).stat()
    except OSError:
        return False
    return stat.S_ISBLK(status.st_mode) and status.st_rdev in numbers


def _devices(numbers: set[int]) -> Iterator[Holder]:
    for number in sorted(numbers):
        for holder in sorted((_sysfs(number) / "holders").glob("*")):
            name = _text(holder / "dm" / "name").strip() or holder.name
            yield Holder(kind="device", name=name)


def _pids() -> list[int]:
    with os.scandir(PROC) as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _namespace(pid: int) -> str | None:
    try:
        return str((PROC / str(pid) / "ns" / "mnt").readlink())
    except OSError:
        return None


def _sysfs(number: int) -> Path:
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")


def _number(text: str) -> int:
    major, _, minor = text.strip().partition(":")
    return os.makedev(int(major), int(minor))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # the process has ended
        return ""
