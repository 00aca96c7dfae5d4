# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Replies and events on their way to the broker: there until it has confirmed them."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from time import time

from storpool_agent.journal.database import Stores


@dataclass(frozen=True)
class Outgoing:
    """A message that stays until the broker has confirmed it."""

    seq: int
    exchange: str
    routing_key: str
    message_id: str
    body: bytes
    mandatory: int
    """1: a message that reaches no queue comes back, and is tried again."""


class OutgoingRows:
    """Every method may raise JournalUnavailable; any thread may call any of them."""

    def __init__(self, database: Stores) -> None:
        self._database = database

    def due(self) -> list[Outgoing]:
        """What was postponed, or put out before a restart, and may be published now, the oldest first.

        Nothing is postponed for more than 60 s: what seems to be was before the clock was set back.
        """
        columns = "seq, exchange, routing_key, message_id, body, mandatory"
        query = f"SELECT {columns} FROM outbox WHERE next_try <= ?1 OR next_try > ?1 + 60 ORDER BY seq"  # noqa: S608 - constants
        rows = self._database.read(lambda db: db.execute(query, (time(),)).fetchall())
        return [Outgoing(*row) for row in rows]

    def backlog(self) -> tuple[int, float | None]:
        """How many messages are in the outbox, and when the oldest was put there, in seconds since the epoch."""
        query = "SELECT count(*), min(created_at) FROM outbox"
        count, oldest = self._database.read(lambda db: db.execute(query).fetchone())
        return int(count), oldest

    def has_postponed(self) -> bool:
        """Whether anything waits to be tried again."""
        query = "SELECT EXISTS (SELECT 1 FROM outbox WHERE tries > 0)"
        return bool(self._database.read(lambda db: db.execute(query).fetchone()[0]))

    def confirmed(self, seqs: Sequence[int]) -> None:
        """The broker has them. One statement for all: each gives Python's lock away, and has to wait for it again."""
        query = "DELETE FROM outbox WHERE seq IN (SELECT value FROM json_each(?))"
        self._database.write(lambda db: db.execute(query, (json.dumps(seqs),)))

    def postpone(self, message: Outgoing) -> None:
        """The broker would not take it, or knew nobody to give it to: try again after 1, 2, 4 ... 60 s."""
        now = time()

        def change(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE outbox SET next_try = ?1 + min(60, 1 << min(tries, 6)), tries = tries + 1 WHERE seq = ?2",
                (now, message.seq),
            )

        self._database.write_later(change)

    def flush(self) -> None:
        """Commit what waits for the next commit."""
        self._database.flush()


def put(
    db: sqlite3.Connection, exchange: str, key: str, message_id: str, body: bytes, *, mandatory: bool, now: float
) -> Outgoing:
    """Within a change: have a message published. It is, once that change is committed."""
    added = db.execute(
        "INSERT INTO outbox (exchange, routing_key, message_id, body, mandatory, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (exchange, key, message_id, body, mandatory, now),
    )
    return Outgoing(added.lastrowid or 0, exchange, key, message_id, body, mandatory)
