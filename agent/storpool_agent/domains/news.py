# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who waits for news of which disk. News only wakes: what is true is read from the machine's XML."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Literal

import structlog

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


JobEnd = Literal["failed", "cancelled"]


class Waiter:
    """Of one thread, for one disk."""

    def __init__(self, uuid: str, about: str) -> None:
        self.uuid = uuid
        self.about = about
        self.refused = False
        """The guest has said no. Set before the waiter wakes."""
        self.job_end: JobEnd | None = None
        """How the disk's block job ended, if it was heard to. Set before the waiter wakes."""
        self._woken = threading.Event()

    def wait(self, timeout_s: float) -> None:
        """Until there is news, or the time is over. News that came before the wait counts."""
        self._woken.wait(timeout_s)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()


class Newsroom:
    """Takes events in libvirt's thread, wakes waiters, and tells the agent which machine to look at."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiters: list[Waiter] = []
        self._on_change: Callable[[str | None], None] = _nobody

    def tell(self, on_change: Callable[[str | None], None]) -> None:
        self._on_change = on_change

    @contextmanager
    def expect(self, uuid: str, about: str) -> Generator[Waiter]:
        """Expect news of a disk from now on: before the guest is asked, or its answer may come first.

        `about` is the disk's alias, for what becomes of an unplug, or its target, for what becomes of a block job: no
        alias is ever a target's name.
        """
        waiter = Waiter(uuid, about)
        with self._guard:
            self._waiters.append(waiter)
        try:
            yield waiter
        finally:
            with self._guard:
                self._waiters.remove(waiter)

    def wake_all(self) -> None:
        for waiter in self._those(None, None):
            waiter.wake()

    def device_removed(self, uuid: str, alias: str) -> None:
        for waiter in self._those(uuid, alias):
            waiter.wake()
        self._tell(uuid)

    def removal_failed(self, uuid: str, alias: str) -> None:
        for waiter in self._those(uuid, alias):
            waiter.refused = True
            waiter.wake()
        self._tell(uuid)

    def block_job(self, uuid: str, target: str, end: JobEnd | None) -> None:
        for waiter in self._those(uuid, target):
            waiter.job_end = end or waiter.job_end
            waiter.wake()

    def stopped(self, uuid: str) -> None:
        for waiter in self._those(uuid, None):
            waiter.wake()
        self._tell(uuid)

    def connected(self) -> None:
        """Events may have been missed."""
        self.wake_all()
        self._tell(None)

    def _those(self, uuid: str | None, about: str | None) -> list[Waiter]:
        with self._guard:
            return [waiter for waiter in self._waiters if uuid in (None, waiter.uuid) and about in (None, waiter.about)]

    def _tell(self, uuid: str | None) -> None:
        try:
            self._on_change(uuid)
        except Exception:  # an exception in libvirt's thread would be printed and lost
            log.exception("crashed", callback="on_disks_changed", vm=uuid)


def _nobody(_uuid: str | None) -> None:
    """Nobody has asked to be told."""
