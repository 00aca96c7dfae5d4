# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeping the journal as large as what it must remember, and no larger."""

from threading import Event, Thread

import structlog

from storpool_agent import liveness
from storpool_agent.clock import ClockWatch
from storpool_agent.errors import JournalUnavailable
from storpool_agent.journal.journal import Journal

log = structlog.get_logger()

FORGET_S = 3600.0
"""How often requests are dropped whose retention is over."""
SETTLE_S = 600.0
"""Not before: a host that has just booted may be corrected by NTP yet."""


class Housekeeping:
    """Drops what the journal need not keep, a little at a time so that no command waits for it."""

    def __init__(self, journal: Journal, clock: ClockWatch) -> None:
        self._journal = journal
        self._clock = clock
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="housekeeping")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = SETTLE_S
        with liveness.registry.loop("housekeeping") as loop:
            loop.waits()
            while not self._stopping.wait(pause_s):
                loop.turns()
                pause_s = self.prune()
                loop.waits()

    def prune(self) -> float:
        """Drop some of what is old, unless the clock is in doubt; returns how soon to come again, in seconds."""
        self._clock.look()
        if self._clock.is_doubtful:
            return FORGET_S
        try:
            return 1.0 if self._journal.forget() else FORGET_S
        except JournalUnavailable as error:
            log.warning("journal not pruned", reason=str(error))
            return FORGET_S
