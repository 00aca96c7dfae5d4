# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Guests that were asked to let go of a disk: the detach is finished when they do, also by a later start."""

import json
import sqlite3
from dataclasses import dataclass
from time import time

from storpool_agent.journal.database import Stores
from storpool_agent.journal.outgoing import Outgoing, put
from storpool_commands import topology


@dataclass(frozen=True)
class PendingUnplug:
    """A guest that was asked to let go of a disk and has not yet."""

    global_id: str
    vm: str
    command: str


class UnplugRows:
    """Every method may raise JournalUnavailable; any thread may call any of them."""

    def __init__(self, database: Stores, host: str) -> None:
        self._database = database
        self._host = host

    def expect(self, pending: PendingUnplug) -> None:
        """Remember a guest that has not let go."""
        values = (pending.global_id, pending.vm, pending.command, time())
        self._database.write(lambda db: db.execute("INSERT OR REPLACE INTO pending_unplug VALUES (?, ?, ?, ?)", values))

    def pending(self, vm: str | None = None) -> list[PendingUnplug]:
        """Those of one machine, or all."""
        rows = self._database.read(
            lambda db: db.execute(
                "SELECT global_id, vm, command FROM pending_unplug WHERE ?1 IS NULL OR vm = ?1", (vm,)
            ).fetchall()
        )
        return [PendingUnplug(*row) for row in rows]

    def of(self, global_id: str) -> PendingUnplug | None:
        """The one of a volume."""
        query = "SELECT global_id, vm, command FROM pending_unplug WHERE global_id = ?"
        row = self._database.read(lambda db: db.execute(query, (global_id,)).fetchone())
        return PendingUnplug(*row) if row else None

    def since(self) -> list[float]:
        """When each guest that has not let go was asked to, in seconds since the epoch."""
        query = "SELECT since FROM pending_unplug"
        return [row[0] for row in self._database.read(lambda db: db.execute(query).fetchall())]

    def settle(self, global_id: str, event: str | None = None, body: bytes = b"") -> Outgoing | None:
        """Forget a pending unplug, and put out the event that says so, in one commit. Once: None if it was settled."""

        def change(db: sqlite3.Connection) -> Outgoing | None:
            if not db.execute("DELETE FROM pending_unplug WHERE global_id = ?", (global_id,)).rowcount or event is None:
                return None
            key = topology.event_key(self._host, event)
            message_id = json.loads(body)["id"]
            return put(db, topology.EVENTS, key, message_id, body, mandatory=False, now=time())

        return self._database.write(change)
