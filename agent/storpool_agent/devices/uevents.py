# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Wakes who waits for a device. The only module that knows pyudev.

Events are hints that it is time to look again, never facts: they are lost when the socket's buffer overflows, they
do not reach a network namespace, and StorPool makes its links itself, so that a link may come after its event.
"""

import contextlib
import os
import select
from pathlib import Path
from threading import Condition, Thread
from typing import Literal

import pyudev
import structlog

from storpool_agent import liveness

UDEV_CONTROL = Path("/run/udev/control")  # the socket of a running udevd
REBUILD_S = 1.0  # pause before listening again, when that has just failed
STOP_S = 5.0
EVENT_BYTES = 64 * 1024  # one read takes one event, whatever is left of it is lost

log = structlog.get_logger(__name__)

Source = Literal["udev", "kernel"]


class Uevents:
    """Counts block device events in a thread of its own (`udev`). Any thread may wait for the next one."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._count = 0
        self._stop_reader, self._stop_writer = -1, -1
        self._thread: Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Listens when it returns: what happens from now on is not missed."""
        self._stopping = False
        self._stop_reader, self._stop_writer = os.pipe2(os.O_CLOEXEC)
        monitor = _listen()
        self._thread = Thread(target=self._run, args=(monitor,), name="udev")
        self._thread.start()

    def stop(self) -> None:
        """Idempotent. Waiters go on by their own looks."""
        if self._thread is None:
            return
        self._stopping = True
        os.write(self._stop_writer, b"x")
        self._thread.join(STOP_S)
        os.close(self._stop_writer)
        os.close(self._stop_reader)
        self._thread = None

    @property
    def count(self) -> int:
        return self._count

    def wait(self, seen: int, timeout_s: float) -> bool:
        """Whether there has been an event since the count was `seen`. Returns at once when there has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count != seen, timeout_s)

    def _run(self, monitor: pyudev.Monitor) -> None:
        with liveness.registry.loop("udev") as loop:
            while not self._stopping:
                try:
                    self._listen_on(monitor, loop)
                except OSError as error:  # ENOBUFS: events were lost
                    loop.waits()
                    log.warning("udev events lost", reason=str(error))
                    monitor = self._rebuilt(monitor)

    def _listen_on(self, monitor: pyudev.Monitor, loop: liveness.Loop) -> None:
        poll = select.poll()
        poll.register(monitor.fileno(), select.POLLIN)
        poll.register(self._stop_reader, select.POLLIN)
        while not self._stopping:
            loop.waits()
            poll.poll()
            loop.turns()
            _drain(monitor.fileno())
            self._wake()

    def _rebuilt(self, old: pyudev.Monitor) -> pyudev.Monitor:
        self._wake()
        while not self._stopping:
            try:
                return _listen()
            except OSError as error:
                log.warning("udev not heard", reason=str(error), retry_s=REBUILD_S)
                select.select([self._stop_reader], [], [], REBUILD_S)
        return old

    def _wake(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()


def _drain(descriptor: int) -> None:
    """Unread: that there is an event is all that counts. Made into a device it costs three times as much."""
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, EVENT_BYTES):
            pass


def _listen() -> pyudev.Monitor:
    """To udevd, whose events come after its rules have run; to the kernel where there is no udevd."""
    source: Source = "udev" if UDEV_CONTROL.exists() else "kernel"
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
    monitor.filter_by("block")
    monitor.start()
    log.info("udev heard", source=source)
    return monitor
