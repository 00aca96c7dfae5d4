# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the tools are given: open files, never paths, and how they are to treat them."""

from collections.abc import Callable
from dataclasses import dataclass

from storpool_agent.interrupt import Interrupt
from storpool_commands.images import ImageFormat, IoPriority


@dataclass(frozen=True)
class Image:
    """An image that is open. Whoever opened it has checked what it is, and closes it."""

    descriptor: int
    format: ImageFormat
    """Said, never guessed."""
    name: str
    """For messages: the device, or the file's place on its store."""
    device: bool = False
    """A block device; else a regular file."""


@dataclass(frozen=True)
class Look:
    """What a foreign image turned out to be."""

    virtual_size_bytes: int
    """Of the disk in it."""


@dataclass(frozen=True)
class Task:
    """How a job is run, and who watches it.

    `report` is called with bytes done and bytes in all (None when that is not known), as often as there is news,
    in the thread that made the call; it is for whoever is called to pass on no more than is wanted.
    """

    interrupt: Interrupt
    report: Callable[[int, int | None], None]
    bandwidth_bytes_s: int | None = None
    io_priority: IoPriority = "low"
    stall_timeout_s: float = 120.0
