# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tickets: what this host knows of the migrations of machines that it is the source or the destination of.

A ticket is there before anything is done for its migration, outlives the agent, and is closed once. A closed one is
kept for as long as requests are remembered: it is why a command that comes late does nothing.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time
from typing import Literal
from uuid import UUID

from storpool_agent.journal.database import Stores
from storpool_agent.journal.outgoing import Outgoing, put
from storpool_commands import topology
from storpool_commands.migration import Role, SeenMigration

TicketState = Literal["open", "finished", "rolled-back"]
_COLUMNS = "id, role, vm, name, peer, state, moved, since, expires_at"


@dataclass(frozen=True)
class TicketDisk:
    """A volume of the machine."""

    global_id: str
    mode: Literal["rw", "ro"]
    attached_now: bool = False
    """This migration has attached it to this host, or was about to."""
    encrypted: bool = False


@dataclass(frozen=True)
class Ticket:
    """One migration, as this host sees it."""

    migration: str
    role: Role | None
    """None: it was rolled back here before anything of it had come."""
    vm: str
    name: str
    peer: str
    expires_at: float
    """Seconds since the epoch."""
    disks: tuple[TicketDisk, ...] = ()
    state: TicketState = "open"
    moved: bool = False
    """The machine was seen to run on the destination: whoever finds it paused there leaves it so."""
    since: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.state == "open"

    @property
    def expired(self) -> bool:
        return time() >= self.expires_at

    @property
    def seen(self) -> SeenMigration:
        """As whoever asks is told of it."""
        if self.role is None:
            raise ValueError("it was over before anything of it had come")
        return SeenMigration(
            migration=UUID(self.migration),
            vm=self.vm,
            name=self.name,
            role=self.role,
            peer=self.peer,
            since=datetime.fromtimestamp(self.since, UTC),
            expires_at=datetime.fromtimestamp(self.expires_at, UTC),
            expired=self.expired,
            volumes=[disk.global_id for disk in self.disks],
        )


class Tickets:
    """Every method may raise JournalUnavailable; any thread may call any of them."""

    def __init__(self, database: Stores) -> None:
        self._database = database

    def open(self, ticket: Ticket) -> Ticket:
        """Write it down, unless there is one of that migration; returns the one that is there."""

        def change(db: sqlite3.Connection) -> None:
            values = (ticket.migration, ticket.role, ticket.vm, ticket.name, ticket.peer, time(), ticket.expires_at)
            added = db.execute(
                "INSERT OR IGNORE INTO migration (id, role, vm, name, peer, since, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            if added.rowcount:
                rows = [
                    (ticket.migration, number, disk.global_id, disk.mode, disk.attached_now, disk.encrypted)
                    for number, disk in enumerate(ticket.disks)
                ]
                db.executemany("INSERT INTO migration_disk VALUES (?, ?, ?, ?, ?, ?)", rows)

        self._database.write(change)
        found = self.get(ticket.migration)
        return ticket if found is None else found

    def attaching(self, migration: str, global_id: str, *, now: bool) -> None:
        """This host is about to attach the volume for it; `now=False`: it has detached it again."""
        query = "UPDATE migration_disk SET attached_now = ? WHERE (migration, global_id) = (?, ?)"
        self._database.write(lambda db: db.execute(query, (now, migration, global_id)))

    def moved(self, migration: str) -> None:
        """The machine runs on the destination."""
        self._database.write(lambda db: db.execute("UPDATE migration SET moved = 1 WHERE id = ?", (migration,)))

    def withdraw(self, migration: str) -> None:
        """Nothing of it is left here: it may begin anew."""
        query = "DELETE FROM migration WHERE id = ? AND state = 'open'"
        self._database.write(lambda db: db.execute(query, (migration,)))

    def close(self, migration: str, vm: str, state: TicketState) -> None:
        """It has come to its end here, also one that this host has never heard of."""
        now = time()

        def change(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO migration (id, role, vm, name, peer, since, expires_at, state, ended_at)"
                " VALUES (?1, NULL, ?2, '', '', ?4, ?4, ?3, ?4)"
                " ON CONFLICT (id) DO UPDATE SET state = excluded.state, ended_at = excluded.ended_at",
                (migration, vm, state, now),
            )

        self._database.write(change)

    def get(self, migration: str) -> Ticket | None:
        """Open or closed."""
        found = self._read("WHERE id = ?", (migration,))
        return found[0] if found else None

    def under_way(self) -> list[Ticket]:
        """Those that are open, the oldest first."""
        return self._read("WHERE state = 'open' ORDER BY since, id", ())

    def of_machine(self, vm: str) -> Ticket | None:
        """The open one."""
        found = self._read("WHERE state = 'open' AND vm = ?", (vm,))
        return found[0] if found else None

    def with_volume(self, global_id: str) -> Ticket | None:
        """The open one whose machine has the volume."""
        having = "SELECT migration FROM migration_disk WHERE global_id = ?"
        found = self._read(f"WHERE state = 'open' AND id IN ({having})", (global_id,))
        return found[0] if found else None

    def unreported(self) -> list[Ticket]:
        """Those that have expired while they were open, and that nobody was told of."""
        return self._read("WHERE state = 'open' AND NOT reported AND expires_at < ?", (time(),))

    def report(self, ticket: Ticket, routing_key: str, body: bytes) -> Outgoing:
        """Note that somebody is told that it has expired, and put out the event that says so, in one commit."""

        def change(db: sqlite3.Connection) -> Outgoing:
            db.execute("UPDATE migration SET reported = 1 WHERE id = ?", (ticket.migration,))
            message_id = json.loads(body)["id"]
            return put(db, topology.EVENTS, routing_key, message_id, body, mandatory=False, now=time())

        return self._database.write(change)

    def _read(self, where: str, values: tuple[str | float, ...]) -> list[Ticket]:
        def read(db: sqlite3.Connection) -> list[Ticket]:
            rows = db.execute(f"SELECT {_COLUMNS} FROM migration {where}", values).fetchall()  # noqa: S608 - constants
            return [_ticket(db, *row) for row in rows]

        return self._database.read(read)


def _ticket(
    db: sqlite3.Connection,
    migration: str,
    role: Role | None,
    vm: str,
    name: str,
    peer: str,
    state: TicketState,
    moved: int,
    since: float,
    expires_at: float,
) -> Ticket:
    query = "SELECT global_id, mode, attached_now, encrypted FROM migration_disk WHERE migration = ? ORDER BY number"
    rows: Sequence[tuple[str, Literal["rw", "ro"], int, int]] = db.execute(query, (migration,)).fetchall()
    disks = tuple(TicketDisk(global_id, mode, bool(now), bool(encrypted)) for global_id, mode, now, encrypted in rows)
    return Ticket(migration, role, vm, name, peer, expires_at, disks, state, bool(moved), since)
