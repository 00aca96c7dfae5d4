# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeping the journal as large as what it must remember, and no larger."""

from threading import Event, Thread

import structlog

from storpool_agent.errors import JournalUnavailable
from storpool_agent.journal.journal import Journal

log = structlog.get_logger()

FORGET_S = 3600.0
"""How often requests are dropped whose retention is over."""


class Housekeeping:
    """Drops what the journal need not keep, a little at a time so that no command waits for it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="housekeeping")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            try:
                pause_s = 1.0 if self._journal.forget() else FORGET_S
            except JournalUnavailable as error:
                log.warning("journal not pruned", reason=str(error))
                pause_s = FORGET_S
