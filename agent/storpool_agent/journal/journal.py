# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests from their arrival to their confirmed reply, as rows."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from time import time

from storpool_agent.journal.database import Change, Done, Stores
from storpool_agent.journal.outgoing import Outgoing, OutgoingRows, put
from storpool_agent.journal.temporaries import TemporaryRows
from storpool_agent.journal.thaws import ThawRows
from storpool_agent.journal.unplugs import UnplugRows
from storpool_commands import topology
from storpool_commands.control import State

RETENTION_S = 7 * 24 * 3600
"""How long the reply of a finished request can be asked for again, and its id is known."""


@dataclass(frozen=True)
class Arrival:
    """A valid request as it came from the broker."""

    id: str
    command: str
    body: bytes
    publisher: str | None
    reply_to: str | None
    shared: bool = False
    """From the queue of all hosts: the broker keeps it until it is finished, so no later start runs it."""
    kept: bytes | None = None
    """What is stored of the body when it has a secret in it; None: all of it."""


class Verdict(Enum):
    """What an arrival is to the journal."""

    NEW = auto()
    UNFINISHED = auto()
    FINISHED = auto()
    CONFLICT = auto()


@dataclass(frozen=True)
class Stored:
    """A request that was accepted and is not finished."""

    id: str
    body: bytes
    attempts: int
    stops: int
    """Attempts that ended because the agent was stopped, in order: they say nothing against the request."""
    publisher: str | None = None


@dataclass(frozen=True)
class Record:
    """What the journal knows of one request."""

    id: str
    command: str
    state: State
    received_at: float
    attempts: int
    reply: bytes | None


class Journal:
    """The rules of the journal. Every method may raise JournalUnavailable; any thread may call any of them."""

    def __init__(self, database: Stores, host: str) -> None:
        self._database = database
        self._host = host
        self.outgoing = OutgoingRows(database)
        self.unplugs = UnplugRows(database, host)
        self.thaws = ThawRows(database)
        self.temporaries = TemporaryRows(database)

    # requests

    def accept(self, arrivals: Sequence[Arrival]) -> list[tuple[Verdict, Outgoing | None]]:
        """Store what is new, in one commit. The reply of a finished request is put out again for whoever asks."""
        now = time()
        digests = [_digest(arrival) for arrival in arrivals]
        pairs = list(zip(arrivals, digests, strict=True))
        return self._database.write(lambda db: [_accept(db, self._host, *pair, now) for pair in pairs])

    def start(self, request_id: str) -> int:
        """Note that the request is being run; returns the number of this attempt, 1 for the first."""

        def change(db: sqlite3.Connection) -> int:
            (attempts,) = db.execute(
                "UPDATE command SET state = 'running', attempts = attempts + 1 WHERE id = ? RETURNING attempts",
                (request_id,),
            ).fetchone()
            return int(attempts)

        return self._database.write(change)

    def stop(self, request_id: str) -> None:
        """Note that the request is not being run any more because the agent stops; the next start runs it again."""
        query = "UPDATE command SET stops = stops + 1 WHERE id = ?"
        self._database.write(lambda db: db.execute(query, (request_id,)))

    def traceparent(self, request_id: str) -> str | None:
        """The trace context that the request came with, as long as it is remembered."""
        body = "CAST(request AS TEXT)"
        value = f"CASE WHEN json_valid({body}) THEN json_extract({body}, '$.traceparent') END"
        query = f"SELECT {value} FROM command WHERE id = ?"  # noqa: S608 - constants
        row = self._database.read(lambda db: db.execute(query, (request_id,)).fetchone())
        return row[0] if row else None

    def asking(self, request_id: str) -> list[str]:
        """The words that have asked for the request's reply."""
        query = "SELECT reply_to FROM command WHERE id = ?"
        row = self._database.read(lambda db: db.execute(query, (request_id,)).fetchone())
        return row[0].split() if row else []

    def finish(self, request_id: str, reply: bytes) -> list[Outgoing]:
        """Store the reply and put it out, in one commit; returns what is to be published now."""
        return self._database.write(self._finishing(request_id, reply))

    def finish_soon(
        self, request_id: str, reply: bytes, done: Done[list[Outgoing]], failed: Callable[[Exception], None]
    ) -> None:
        """As `finish`, for a caller that has something else to do than to wait (see Database.write_soon)."""
        self._database.write_soon(self._finishing(request_id, reply), done, failed)

    def _finishing(self, request_id: str, reply: bytes) -> Change[list[Outgoing]]:
        now = time()

        def change(db: sqlite3.Connection) -> list[Outgoing]:
            (reply_to,) = db.execute(
                "UPDATE command SET state = 'finished', finished_at = ?, reply = ? WHERE id = ? RETURNING reply_to",
                (now, reply, request_id),
            ).fetchone()
            return [_put_reply(db, self._host, word, request_id, reply, now) for word in reply_to.split()]

        return change

    def unfinished(self) -> list[Stored]:
        """What was accepted and has no reply, in order of arrival."""
        rows = self._database.read(
            lambda db: db.execute(
                "SELECT id, request, attempts, stops, publisher FROM command WHERE state != 'finished' ORDER BY seq"
            ).fetchall()
        )
        return [Stored(*row) for row in rows]

    def drop_shared(self) -> int:
        """Forget what the broker keeps and has given, or will give, to some agent again; returns how many."""
        query = "DELETE FROM command WHERE shared AND state != 'finished'"
        return self._database.write(lambda db: db.execute(query).rowcount)

    def drop(self, request_ids: Sequence[str]) -> None:
        """As drop_shared, for some of them."""
        query = "DELETE FROM command WHERE shared AND state != 'finished' AND id IN (SELECT value FROM json_each(?))"
        self._database.write(lambda db: db.execute(query, (json.dumps(request_ids),)))

    def record(self, request_id: str) -> Record | None:
        """What is known of a request, None when it never came or is forgotten."""
        rows = self._records("WHERE id = ?", (request_id,))
        return rows[0] if rows else None

    def records(self, state: State | None, limit: int) -> list[Record]:
        """The newest requests first."""
        if state is None:
            return self._records("ORDER BY seq DESC LIMIT ?", (limit,))
        return self._records("WHERE state = ? ORDER BY seq DESC LIMIT ?", (state, limit))

    def forget(self) -> int:
        """Drop some requests whose retention is over, and replies that nobody took by then; returns how many."""
        horizon = time() - RETENTION_S
        old = "SELECT seq FROM command WHERE state = 'finished' AND finished_at < ? LIMIT 1000"

        def change(db: sqlite3.Connection) -> int:
            db.execute("DELETE FROM outbox WHERE created_at < ?", (horizon,))
            return db.execute(f"DELETE FROM command WHERE seq IN ({old})", (horizon,)).rowcount  # noqa: S608 - constant

        return self._database.write(change)

    def _records(self, where: str, values: tuple[str | int, ...]) -> list[Record]:
        columns = "id, name, state, received_at, attempts, reply"
        rows = self._database.read(
            lambda db: db.execute(f"SELECT {columns} FROM command {where}", values).fetchall()  # noqa: S608 - constants
        )
        return [Record(*row) for row in rows]

    # notes

    def note(self, request_id: str, kind: str, target: str) -> None:
        """Write down what is about to be made, so that it is known for the command's own after a crash."""
        self._database.write(
            lambda db: db.execute("INSERT OR IGNORE INTO note VALUES (?, ?, ?)", (request_id, kind, target))
        )

    def noted(self, request_id: str, kind: str, target: str) -> bool:
        """Whether this command wrote that note, in this life of the agent or an earlier one."""
        query = "SELECT 1 FROM note WHERE command = ? AND kind = ? AND target = ?"
        return bool(self._database.read(lambda db: db.execute(query, (request_id, kind, target)).fetchone()))

    def notes(self, request_id: str, kind: str) -> list[str]:
        """The targets of all notes of a kind that this command wrote."""
        query = "SELECT target FROM note WHERE command = ? AND kind = ?"
        return [row[0] for row in self._database.read(lambda db: db.execute(query, (request_id, kind)).fetchall())]

    # generations

    def raise_fence(self, global_id: str, generation: int) -> int:
        """Keep the highest generation of a volume; returns it, so an older caller sees that it is stale."""

        def change(db: sqlite3.Connection) -> int:
            (highest,) = db.execute(
                "INSERT INTO fence VALUES (?, ?) ON CONFLICT (global_id)"
                " DO UPDATE SET generation = max(generation, excluded.generation) RETURNING generation",
                (global_id, generation),
            ).fetchone()
            return int(highest)

        return self._database.write(change)

    def fence(self, global_id: str) -> int:
        """The highest generation seen of a volume, 0 when there was none."""
        row = self._database.read(
            lambda db: db.execute("SELECT generation FROM fence WHERE global_id = ?", (global_id,)).fetchone()
        )
        return int(row[0]) if row else 0


def _digest(arrival: Arrival) -> bytes:
    """What a request with the same id is compared by.

    With a secret in it a slow one: of the rest everything is in the journal, and a passphrase that somebody chose could
    be found by trying.
    """
    if arrival.kept is None or arrival.kept == arrival.body:
        return hashlib.sha256(arrival.body).digest()
    return hashlib.scrypt(arrival.body, salt=arrival.id.encode(), n=1 << 14, r=8, p=1, dklen=32)  # 16 MiB, 50 ms


def _accept(
    db: sqlite3.Connection, host: str, arrival: Arrival, digest: bytes, now: float
) -> tuple[Verdict, Outgoing | None]:
    kept = arrival.body if arrival.kept is None else arrival.kept
    added = db.execute(
        "INSERT INTO command (id, digest, request, name, publisher, reply_to, received_at, shared, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'accepted') ON CONFLICT (id) DO NOTHING",
        (
            arrival.id,
            digest,
            kept,
            arrival.command,
            arrival.publisher,
            arrival.reply_to or "",
            now,
            arrival.shared,
        ),
    )
    if added.rowcount:
        return Verdict.NEW, None
    known, state, reply, askers = db.execute(
        "SELECT digest, state, reply, reply_to FROM command WHERE id = ?", (arrival.id,)
    ).fetchone()
    if known != digest:
        return Verdict.CONFLICT, None
    if state == "finished":
        again = _put_reply(db, host, arrival.reply_to, arrival.id, reply, now) if arrival.reply_to else None
        return Verdict.FINISHED, again
    if arrival.reply_to and arrival.reply_to not in askers.split():
        db.execute("UPDATE command SET reply_to = ? WHERE id = ?", (f"{askers} {arrival.reply_to}", arrival.id))
    if not arrival.shared:  # it is this host's own now, whatever it was
        db.execute("UPDATE command SET shared = 0 WHERE id = ?", (arrival.id,))
    return Verdict.UNFINISHED, None


def _put_reply(db: sqlite3.Connection, host: str, reply_to: str, request_id: str, reply: bytes, now: float) -> Outgoing:
    key = topology.reply_key(host, reply_to)
    return put(db, topology.REPLIES, key, request_id, reply, mandatory=True, now=now)
