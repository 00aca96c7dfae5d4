# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What copy jobs have made for as long as they run: written down before it is made, struck out when it is gone."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from storpool_agent.journal.database import Stores

USE = "use"
"""A volume or snapshot that a copy job reads or writes on this host, by its global id."""
ATTACHMENT = "attachment"
"""One that a copy job has attached: the last job that uses it detaches it."""


@dataclass(frozen=True)
class Temporary:
    """One thing that a request has made, or was about to make."""

    command: str
    """The request's id."""
    kind: str
    target: str


class TemporaryRows:
    """Every method may raise JournalUnavailable; any thread may call any of them."""

    def __init__(self, database: Stores) -> None:
        self._database = database

    def add(self, one: Temporary) -> None:
        """Before it is made. Once more is no more."""
        self.change(add=[one])

    def strike(self, one: Temporary) -> None:
        """It is gone, or is to stay."""
        self.change(strike=[one])

    def change(self, *, add: Sequence[Temporary] = (), strike: Sequence[Temporary] = ()) -> None:
        """All of it in one commit."""

        def change(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM temporary WHERE (command, kind, target) = (?, ?, ?)", map(_values, strike))
            query = "INSERT OR IGNORE INTO temporary (command, kind, target) VALUES (?, ?, ?)"
            db.executemany(query, map(_values, add))

        self._database.write(change)

    def of(self, command: str) -> list[Temporary]:
        """Of one request, the newest first: what was made last is taken away first."""
        return self._read("WHERE command = ? ORDER BY seq DESC", (command,))

    def with_target(self, kind: str, target: str) -> list[Temporary]:
        """Of all requests."""
        return self._read("WHERE kind = ? AND target = ? ORDER BY seq", (kind, target))

    def of_kind(self, kind: str) -> list[Temporary]:
        """Of all requests."""
        return self._read("WHERE kind = ? ORDER BY seq", (kind,))

    def left(self) -> list[Temporary]:
        """Of requests that nobody runs any more, the newest first."""
        running = "SELECT id FROM command WHERE state != 'finished'"
        return self._read(f"WHERE command NOT IN ({running}) ORDER BY seq DESC", ())

    def give_away(self, kind: str, target: str) -> bool:
        """It belongs to somebody else now, who is no job: strike it out, whoever made it. True when it was there.

        Where no job made it, which is nearly always, it is not worth a commit.
        """
        if not self.with_target(kind, target):
            return False
        query = "DELETE FROM temporary WHERE (kind, target) = (?, ?)"
        return bool(self._database.write(lambda db: db.execute(query, (kind, target)).rowcount))

    def _read(self, where: str, values: tuple[str, ...]) -> list[Temporary]:
        query = f"SELECT command, kind, target FROM temporary {where}"  # noqa: S608 - constants
        return [Temporary(*row) for row in self._database.read(lambda db: db.execute(query, values).fetchall())]


def _values(one: Temporary) -> tuple[str, str, str]:
    return one.command, one.kind, one.target
