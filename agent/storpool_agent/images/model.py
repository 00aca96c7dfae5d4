# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the tools are given: open files, never paths, and how they are to treat them."""

from dataclasses import dataclass

from storpool_agent.task import Task
from storpool_commands.images import ImageFormat

__all__ = ["Image", "Look", "Task"]


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
    virtual_size_bytes: int | None = None
    """Of the disk in it, when it has been looked into (Images.inspect)."""
    luks: int | None = None
    """The descriptor of a passphrase (luks.sealed): then the disk in it is the one that is encrypted in it."""


@dataclass(frozen=True)
class Look:
    """What a foreign image turned out to be."""

    virtual_size_bytes: int
    """Of the disk in it."""
