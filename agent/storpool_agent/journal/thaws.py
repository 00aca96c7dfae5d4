# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Guests that may be frozen, and when each is to be thawed at the latest, whatever becomes of the agent."""

from collections.abc import Callable
from dataclasses import dataclass

from storpool_agent.journal.database import Stores


@dataclass(frozen=True)
class PendingThaw:
    """A guest that a command may have frozen."""

    vm: str
    command: str
    thaw_at: float
    """Seconds since the epoch."""


class ThawRows:
    """Every method may raise JournalUnavailable; any thread may call any of them."""

    def __init__(self, database: Stores) -> None:
        self._database = database
        self._expected: Callable[[PendingThaw], None] = lambda _pending: None

    def on_expected(self, callback: Callable[[PendingThaw], None]) -> None:
        """Have somebody told of each guest that is about to be frozen, in the thread that is going to freeze it."""
        self._expected = callback

    def expect(self, pending: PendingThaw) -> None:
        """Remember a guest that is about to be frozen."""
        values = (pending.vm, pending.command, pending.thaw_at)
        self._database.write(lambda db: db.execute("INSERT OR REPLACE INTO pending_thaw VALUES (?, ?, ?)", values))
        self._expected(pending)

    def pending(self) -> list[PendingThaw]:
        """All guests that may be frozen."""
        query = "SELECT vm, command, thaw_at FROM pending_thaw"
        return [PendingThaw(*row) for row in self._database.read(lambda db: db.execute(query).fetchall())]

    def of(self, vm: str) -> PendingThaw | None:
        """The one of a machine."""
        return next((pending for pending in self.pending() if pending.vm == vm), None)

    def settle(self, pending: PendingThaw) -> None:
        """The guest is not frozen: forget that it may be, unless it has been frozen again since."""
        values = (pending.vm, pending.command, pending.thaw_at)
        query = "DELETE FROM pending_thaw WHERE (vm, command, thaw_at) = (?, ?, ?)"
        self._database.write(lambda db: db.execute(query, values))
