# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The process that a machine is, for who has to know at once that it is not there any more.

libvirt tells that a machine has gone only after it has cleaned up behind it, up to seconds later; the guest that has
moved would stand still as long. A process that has ended runs nothing, whatever anybody says yet.
"""

import os
import select
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import structlog

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class QemuProcess:
    """One of them, or none that is known."""

    def __init__(self, handle: int | None) -> None:
        self.handle = handle
        """A pidfd: readable when it has ended."""

    @property
    def has_ended(self) -> bool:
        """False also when it is not known."""
        if self.handle is None:
            return False
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(0))

    def wait(self, other: int, timeout_s: float) -> None:
        """Until it has ended, the other descriptor is readable, or the time is over."""
        poll = select.poll()
        for handle in (self.handle, other):
            if handle is not None:
                poll.register(handle, select.POLLIN)
        poll.poll(timeout_s * 1000)


@contextmanager
def of(uuid: str) -> Generator[QemuProcess]:
    """The one QEMU on this host whose machine has this UUID."""
    handle = _open(uuid)
    try:
        yield QemuProcess(handle)
    finally:
        if handle is not None:
            os.close(handle)


def _open(uuid: str) -> int | None:
    """None when there is none, or more than one: a machine that arrives has the same UUID."""
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_of(entry, uuid)]
    if len(found) != 1:
        log.debug("qemu not found", vm=uuid, processes=len(found))
        return None
    try:
        handle = os.pidfd_open(found[0])
    except OSError as error:
        log.debug("qemu not found", vm=uuid, reason=str(error))
        return None
    if not _is_of(Path(f"/proc/{found[0]}"), uuid):  # another process has got the number since
        os.close(handle)
        return None
    return handle


def _is_of(entry: Path, uuid: str) -> bool:
    """libvirt starts QEMU with `-uuid`, always, and a guest cannot change that."""
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    if b"qemu" not in words[0]:
        return False
    return any(word == b"-uuid" and value == uuid.encode() for word, value in pairwise(words))
