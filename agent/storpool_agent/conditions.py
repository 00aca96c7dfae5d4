# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent needs of its host, looked at once a second: room, a journal, a clock, a bounded amount of work.

While the journal is full or lost, or too much waits here, commands are left in their queues: there they are safe, other
hosts may take those that are for any, and their senders' deadlines go on. Control commands are always answered.
"""

import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from storpool_agent import liveness
from storpool_agent.clock import ClockWatch
from storpool_agent.space import SpaceWatch

LOOK_S = 1.0
JOURNAL_FULL = "journal full"
JOURNAL_LOST = "journal lost"
OVERLOADED = "overloaded"

log = structlog.get_logger()


class Gate(Protocol):
    """The way in for commands."""

    def hold(self, reason: str) -> None: ...

    def release(self, reason: str) -> None: ...


class JournalFile(Protocol):
    """What may become of it while the agent runs."""

    @property
    def is_full(self) -> bool: ...

    def is_lost(self) -> bool: ...

    def make_room(self) -> None: ...


class Backlog(Protocol):
    """What waits on this host."""

    def is_over(self, *, again: bool) -> bool:
        """More waits than should; `again`: it did before, so that it is a little less that counts."""
        ...


class Conditions:
    """One thread. What it finds is logged at each change; `troubles` is what is wrong now."""

    def __init__(
        self, gate: Gate, journal: JournalFile, backlog: Backlog, space: SpaceWatch, clock: ClockWatch
    ) -> None:
        self._gate = gate
        self._journal = journal
        self._backlog = backlog
        self._space = space
        self._clock = clock
        self._held: set[str] = set()
        self._mutex = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conditions", daemon=True)

    @property
    def troubles(self) -> tuple[str, ...]:
        """In a few words each, for the status line."""
        with self._mutex:
            held = sorted(self._held)
        return (*held, *(f"little room in {setting}" for setting in self._space.low))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(LOOK_S)

    def _run(self) -> None:
        """A file system that does not answer is no defect of the agent's."""
        with liveness.registry.loop("conditions") as loop:
            loop.waits()
            while not self._stopping.wait(LOOK_S):
                try:
                    self.look()
                except Exception:
                    log.exception("crashed")

    def look(self) -> None:
        self._clock.look()
        self._space.look()
        if self._journal.is_full:
            self._journal.make_room()
        self._hold(JOURNAL_FULL, self._journal.is_full, self._tell_full)
        self._hold(JOURNAL_LOST, self._journal.is_lost(), self._tell_lost)
        self.look_at_backlog()

    def look_at_backlog(self) -> None:
        """Any thread may call this; who takes commands does, after each batch."""
        self._hold(OVERLOADED, self._backlog.is_over(again=OVERLOADED in self._held), self._tell_overloaded)

    def _hold(self, reason: str, holds: bool, tell: Callable[[bool], None]) -> None:
        with self._mutex:
            if holds == (reason in self._held):
                return
            if holds:
                self._held.add(reason)
                self._gate.hold(reason)
            else:
                self._held.discard(reason)
                self._gate.release(reason)
        tell(holds)

    def _tell_full(self, is_so: bool) -> None:
        """That it is full the journal has logged."""
        if not is_so:
            log.info("journal has room again")

    def _tell_lost(self, is_so: bool) -> None:
        if is_so:
            log.error("journal lost")
        else:
            log.info("journal is there again")

    def _tell_overloaded(self, is_so: bool) -> None:
        if is_so:
            log.warning("commands left in the queue")
        else:
            log.info("commands taken again")
