# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The kernel's list of mounts: proc(5), /proc/PID/mountinfo."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line."""

    mount_id: int
    device: int
    """As st_dev."""
    point: str
    source: str
    options: frozenset[str]
    """Of the mount; those of its file system are not among them."""


def of(descriptor: int) -> Mount | None:
    """The mount that a descriptor was opened through.

    By its id, so that among mounts on top of each other it is the one that the path led to. None when that is
    mounted no more (umount -l): the descriptor then still works, and leads to what nobody else sees.
    """
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines() if ":" in line
    )
    mount_id = int(fields["mnt_id"])
    return next((each for each in _mounts() if each.mount_id == mount_id), None)


def at(point: str) -> bool:
    """Whether anything is mounted there."""
    return any(each.point == point for each in _mounts())


def below(directory: str) -> set[str]:
    """The mount points directly below."""
    return {each.point for each in _mounts() if os.path.dirname(each.point) == directory}  # noqa: PTH120 - no Path: text


def _mounts() -> Iterator[Mount]:
    for line in _MOUNTINFO.read_text().splitlines():
        left, _, right = line.partition(" - ")
        mount_id, _, device, _, point, options = left.split(" ")[:6]
        major, _, minor = device.partition(":")
        yield Mount(
            int(mount_id),
            os.makedev(int(major), int(minor)),
            _plain(point),
            _plain(right.split(" ")[1]),
            frozenset(options.split(",")),
        )


def _plain(text: str) -> str:
    """Blanks, tabs, newlines and backslashes are there as \\ooo."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)
