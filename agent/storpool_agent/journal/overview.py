# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What people ask of the journal. It only reads, so it also works on the journal of an agent that is down."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from storpool_agent.journal.database import Stores
from storpool_agent.journal.migrations import Ticket, Tickets
from storpool_commands.control import State

MAX_SHOWN_BYTES = 1 << 16
"""A request or reply that is larger is not read for a list: a thousand of them would keep others waiting."""
SUBJECTS = ("volume", "snapshot", "path", "vm", "pool")
NEWEST = 2000
"""So many requests are looked through for those about a volume."""


@dataclass(frozen=True)
class Entry:
    """A request as it stands in the journal."""

    id: str
    command: str
    state: State
    received_at: float
    attempts: int
    stops: int
    publisher: str | None
    reply_to: tuple[str, ...]
    shared: bool
    finished_at: float | None
    request: Mapping[str, Any] | None
    """Without secrets; None when it is larger than is shown."""
    reply: Mapping[str, Any] | None

    @property
    def objects(self) -> dict[str, str]:
        """What the command is about, as its sender named it."""
        body: Mapping[str, Any] = (self.request or {}).get("body") or {}
        return {key: str(body[key]) for key in SUBJECTS if body.get(key)}


@dataclass(frozen=True)
class Counts:
    """How much of what is in the journal."""

    unfinished: int
    unsent: int
    oldest_unsent: float | None
    unplugs: int
    oldest_unplug: float | None
    thaws: int
    thaws_overdue: int
    leftovers: int


@dataclass(frozen=True)
class Unplug:
    """A guest that was asked to let go."""

    vm: str
    command: str
    since: float


class Overview:
    """Every method may raise JournalUnavailable; any thread may call any of them."""

    def __init__(self, database: Stores) -> None:
        self._database = database

    def entries(self, state: State | None, limit: int, prefix: str | None = None) -> list[Entry]:
        """The newest first."""
        where = "(?1 IS NULL OR state = ?1) AND (?2 IS NULL OR (id >= ?2 AND id < ?2 || 'g'))"
        return self._entries(f"WHERE {where} ORDER BY seq DESC LIMIT ?3", (state, prefix, limit))

    def entry(self, request_id: str) -> Entry | None:
        """One of them, however large."""
        found = self._entries("WHERE id = ?", (request_id,), most=None)
        return found[0] if found else None

    def unfinished(self) -> list[Entry]:
        """What has no reply yet, in order of arrival."""
        return self._entries("WHERE state != 'finished' ORDER BY seq", ())

    def temporaries(self, words: Sequence[str]) -> list[tuple[str, str]]:
        """Kind and request of what copy jobs have written down about an object: the target is it, or names it."""
        query = "SELECT kind, command, target FROM temporary ORDER BY seq"
        rows = self._database.read(lambda db: db.execute(query).fetchall())
        return [(kind, command) for kind, command, target in rows if _names(target, words)]

    def temporaries_of(self, request_id: str) -> list[tuple[str, str]]:
        """Kind and target of what a copy job has made and not taken away."""
        query = "SELECT kind, target FROM temporary WHERE command = ? ORDER BY seq"
        return self._database.read(lambda db: db.execute(query, (request_id,)).fetchall())

    def about(self, words: Sequence[str], limit: int) -> list[Entry]:
        """Finished ones, the newest first, in whose text one of the words is. Only the newest are looked through."""
        query = (
            "SELECT id FROM (SELECT id, request, seq FROM command WHERE state = 'finished' ORDER BY seq DESC LIMIT ?1)"
            " WHERE EXISTS (SELECT 1 FROM json_each(?2) WHERE instr(request, CAST(value AS BLOB)))"
            " ORDER BY seq DESC LIMIT ?3"
        )
        rows = self._database.read(lambda db: db.execute(query, (NEWEST, json.dumps(words), limit)).fetchall())
        return [entry for (each,) in rows if (entry := self.entry(each)) is not None]

    def notes(self, request_id: str) -> list[tuple[str, str]]:
        """Kind and target of all that the request wrote down."""
        query = "SELECT kind, target FROM note WHERE command = ? ORDER BY kind, target"
        return self._database.read(lambda db: db.execute(query, (request_id,)).fetchall())

    def unsent(self, request_id: str) -> int:
        """How many of its replies the broker has not confirmed."""
        query = "SELECT count(*) FROM outbox WHERE message_id = ?"
        return int(self._database.read(lambda db: db.execute(query, (request_id,)).fetchone()[0]))

    def unplug(self, global_id: str) -> Unplug | None:
        """The pending unplug of a volume."""
        query = "SELECT vm, command, since FROM pending_unplug WHERE global_id = ?"
        row = self._database.read(lambda db: db.execute(query, (global_id,)).fetchone())
        return Unplug(*row) if row else None

    def migrations(self) -> list[Ticket]:
        """Those that are neither finished nor rolled back, the oldest first."""
        return Tickets(self._database).under_way()

    def counts(self) -> Counts:
        """All in one query, so of one moment."""
        query = (
            "SELECT (SELECT count(*) FROM command WHERE state != 'finished'),"
            " (SELECT count(*) FROM outbox), (SELECT min(created_at) FROM outbox),"
            " (SELECT count(*) FROM pending_unplug), (SELECT min(since) FROM pending_unplug),"
            " (SELECT count(*) FROM pending_thaw), (SELECT count(*) FROM pending_thaw WHERE thaw_at < ?),"
            " (SELECT count(*) FROM temporary"
            " WHERE command NOT IN (SELECT id FROM command WHERE state != 'finished'))"
        )
        return Counts(*self._database.read(lambda db: db.execute(query, (time(),)).fetchone()))

    def _entries(self, where: str, values: tuple[Any, ...], most: int | None = MAX_SHOWN_BYTES) -> list[Entry]:
        bodies = [f"CASE WHEN length({one}) <= {most} THEN {one} END" if most else one for one in ("request", "reply")]
        columns = "id, name, state, received_at, attempts, stops, publisher, reply_to, shared, finished_at"
        query = f"SELECT {columns}, {', '.join(bodies)} FROM command {where}"  # noqa: S608 - constants
        return [_entry(row) for row in self._database.read(lambda db: db.execute(query, values).fetchall())]


def _entry(row: tuple[Any, ...]) -> Entry:
    request_id, command, state, received_at, attempts, stops, publisher, reply_to, shared, finished_at = row[:10]
    return Entry(
        id=request_id,
        command=command,
        state=state,
        received_at=received_at,
        attempts=attempts,
        stops=stops,
        publisher=publisher,
        reply_to=tuple(reply_to.split()),
        shared=bool(shared),
        finished_at=finished_at,
        request=_read(row[10]),
        reply=_read(row[11]),
    )


def _names(target: str, words: Sequence[str]) -> bool:
    try:
        named = json.loads(target)
    except ValueError:
        named = target
    return any(word in (named if isinstance(named, list) else [target]) for word in words)


def _read(body: bytes | None) -> Mapping[str, Any] | None:
    return json.loads(body) if body else None
