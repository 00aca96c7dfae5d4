# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whose fault it is that a tool failed, from what it said (LC_ALL=C: the words are strerror's own)."""

import os
import re

from storpool_agent.errors import AgentError, CopyFailed, SecondaryFull, SecondaryUnavailable
from storpool_agent.images.child import ToolFailed
from storpool_agent.images.model import Image

FULL = ("No space left on device", "Disk quota exceeded")
LOST = (
    "Input/output error",
    "Stale file handle",
    "Remote I/O error",
    "Transport endpoint is not connected",
    "Read-only file system",
    "Permission denied",
    "No such device or address",
    "Connection timed out",
    "Host is down",
)
_READING = re.compile(r"error while reading|reading at byte|get block status|metadata of source", re.IGNORECASE)
_DAMAGED = re.compile(r"corrupt", re.IGNORECASE)


def of_reading(failed: ToolFailed, source: Image) -> AgentError:
    """What to raise when it only read."""
    return _of(failed, source) or failed


def of_copying(failed: ToolFailed, source: Image, target: Image) -> AgentError:
    """What to raise when it copied: what it does not say of reading is of writing."""
    if _READING.search(failed.said) or f"'{source.name}'" in failed.said:
        return _of(failed, source) or failed
    return of_making(failed, target)


def of_making(failed: ToolFailed, target: Image) -> AgentError:
    """What to raise when it only wrote."""
    if any(one in failed.said for one in FULL) and not target.device:
        free = _free_bytes(target.descriptor)
        return SecondaryFull(
            f"{failed}: there is no room for {target.name}, {free} bytes are free beside what it has taken",
            file=target.name,
            free_bytes=free,
            said=failed.said,
        )
    return _of(failed, target) or failed


def of_a_call(error: OSError, image: Image) -> AgentError:
    """What to raise when a call on the open file failed."""
    why = error.strerror or str(error)
    if image.device:
        return CopyFailed(f"the device {image.name} fails: {why}", device=image.name)
    return SecondaryUnavailable(f"the file {image.name} cannot be used: {why}", file=image.name)


def _free_bytes(descriptor: int) -> int:
    """For others than root; 0 when its file system does not even say that."""
    try:
        space = os.fstatvfs(descriptor)
    except OSError:
        return 0
    return space.f_bavail * space.f_frsize


def _of(failed: ToolFailed, image: Image) -> AgentError | None:
    if _DAMAGED.search(failed.said):
        return CopyFailed(f"{failed}: {image.name} is damaged", file=image.name, said=failed.said)
    if not any(one in failed.said for one in (*LOST, *FULL)):
        return None
    if image.device:
        return CopyFailed(f"{failed}: the device {image.name} fails", device=image.name, said=failed.said)
    return SecondaryUnavailable(f"{failed}: the file {image.name} cannot be used", file=image.name, said=failed.said)
