# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows in memory, with a journal that puts them on disk or takes them back."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

Row = TypeVar("Row")
Listener = Callable[[Row | None, Row | None], None]


class Journal:
    """The changes since the last commit, oldest first, and the SQLite file they go to.

    WAL with synchronous=NORMAL: a commit outlives kill -9 of this process (not a power cut) and takes some 50 us,
    however many rows there are.
    """

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS rows (kind, key, json, PRIMARY KEY (kind, key)) WITHOUT ROWID")
        self._changes: list[tuple[Table[Any], str, Any]] = []

    def read(self, kind: str) -> list[tuple[str, str]]:
        return self._db.execute("SELECT key, json FROM rows WHERE kind = ?", (kind,)).fetchall()

    def note(self, table: "Table[Any]", key: str, before: object) -> None:
        self._changes.append((table, key, before))

    def commit(self) -> None:
        rows = {(table.kind, key): table.encoded(key) for table, key, _ in self._changes}
        self._changes.clear()
        self._db.execute("BEGIN")
        try:
            for (kind, key), json in rows.items():
                if json is None:
                    self._db.execute("DELETE FROM rows WHERE kind = ? AND key = ?", (kind, key))
                else:
                    self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (kind, key, json))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def roll_back(self) -> None:
        while self._changes:
            table, key, before = self._changes.pop()
            table.restore(key, before)

    @property
    def is_dirty(self) -> bool:
        return bool(self._changes)

    def close(self) -> None:
        self._db.close()


class Table(Generic[Row]):
    """All rows of one kind. Reading needs no lock; writing belongs to `State.change`."""

    def __init__(self, kind: str, row_type: type[Row], journal: Journal, listener: Listener[Row] | None = None) -> None:
        self.kind = kind
        self._adapter: TypeAdapter[Row] = TypeAdapter(row_type)
        self._journal = journal
        self._listener = listener
        self._rows: dict[str, Row] = {}
        for key, json in journal.read(kind):
            self.restore(key, self._adapter.validate_json(json))

    def get(self, key: str) -> Row | None:
        return self._rows.get(key)

    def all(self) -> list[Row]:
        return list(self._rows.values())

    def put(self, key: str, row: Row) -> None:
        self._journal.note(self, key, self._rows.get(key))
        self.restore(key, row)

    def drop(self, key: str) -> None:
        self._journal.note(self, key, self._rows.get(key))
        self.restore(key, None)

    def restore(self, key: str, row: Row | None) -> None:
        before = self._rows.get(key)
        if row is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = row
        if self._listener is not None:
            self._listener(before, row)

    def encoded(self, key: str) -> str | None:
        row = self._rows.get(key)
        return None if row is None else self._adapter.dump_json(row).decode()
