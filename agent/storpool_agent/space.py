# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Room on the file systems that the agent writes to."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

ENOUGH_AGAIN = 1.25
"""A place is in order again when it has this many times what it should: not at every file that comes and goes."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Place:
    """A directory that should have some room."""

    setting: str
    path: Path
    low_bytes: int
    """0: not watched."""


def free_bytes(path: Path) -> int:
    """Of the file system that the directory is on, or will be made on."""
    there = next(one for one in (path, *path.parents) if one.exists())
    status = os.statvfs(there)
    return status.f_bavail * status.f_frsize


class SpaceWatch:
    """For one thread; any may read `low`."""

    def __init__(self, places: Sequence[Place], look: Callable[[Path], int] = free_bytes) -> None:
        self._places = places
        self._look = look
        self.low: tuple[str, ...] = ()
        """The settings whose directories have too little room."""

    def look(self) -> None:
        """Log what has changed."""
        self.low = tuple(place.setting for place in self._places if place.low_bytes and self._is_low(place))

    def _is_low(self, place: Place) -> bool:
        was_low = place.setting in self.low
        try:
            free = self._look(place.path)
        except OSError as error:
            log.debug("space not known", path=str(place.path), reason=str(error))
            return was_low
        is_low = free < place.low_bytes * (ENOUGH_AGAIN if was_low else 1)
        if is_low != was_low:
            facts = {
                "setting": place.setting,
                "path": str(place.path),
                "free_bytes": free,
                "low_bytes": place.low_bytes,
            }
            if is_low:
                log.warning("disk nearly full", **facts)
            else:
                log.info("disk has room again", **facts)
        return is_low
