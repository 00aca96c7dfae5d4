# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who has a file or block device open, as far as /proc tells."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

UDEV_WORKER = "(udev-worker)"  # systemd 249 and later; older ones run as systemd-udevd
UDEV_NAMES = frozenset({UDEV_WORKER, "systemd-udevd"})


@dataclass(frozen=True, slots=True)
class Opener:
    pid: int
    command: str

    @property
    def is_udev(self) -> bool:
        """It probes what has just appeared or changed, and lets go within milliseconds."""
        return self.command in UDEV_NAMES


def of_path(path: Path) -> list[Opener]:
    """Other processes that have the file open; for a block device, under whatever name they opened it."""
    wanted = _identity(path.stat())
    pids = [int(process.name) for process in Path("/proc").iterdir() if process.name.isdigit()]
    pids.remove(os.getpid())
    return [Opener(pid, _command(pid)) for pid in pids if _has_open(pid, wanted)]


def is_held_exclusively(device: Path) -> bool:
    """Mounted, or used by another block device: neither shows up as a file of a process."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError:
        return True
    return False


def _has_open(pid: int, wanted: tuple[int, int]) -> bool:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_is_same(entry, wanted) for entry in entries)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # it ended, or belongs to somebody else


def _is_same(entry: os.DirEntry[str], wanted: tuple[int, int]) -> bool:
    try:
        return _identity(entry.stat()) == wanted
    except OSError:
        return False  # closed meanwhile


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return (-1, facts.st_rdev) if stat.S_ISBLK(facts.st_mode) else (facts.st_dev, facts.st_ino)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return "?"
