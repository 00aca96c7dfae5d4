# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The journal of an agent that is down, or does not answer: looked at, and never changed."""

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from storpool_agent.errors import JournalUnavailable
from storpool_agent.journal.database import FILE_NAME, Change, Done, Failed, T
from storpool_agent.journal.schema import SCHEMA_VERSION

BUSY_S = 5.0


class ReadOnlyDatabase:
    """One thread at a time. It makes no file, not even SQLite's own beside the journal."""

    def __init__(self, path: Path, connection: sqlite3.Connection, must_stay_away: Path | None) -> None:
        """`must_stay_away`: a file that says that somebody writes what is read here without asking."""
        self._path = path
        self._connection = connection
        self._must_stay_away = must_stay_away
        self._mutex = threading.Lock()

    def read(self, query: Change[T]) -> T:
        """Run a query. Raises JournalUnavailable."""
        with self._mutex:
            try:
                found = query(self._connection)
            except sqlite3.Error as error:
                raise _unreadable(self._path, str(error)) from error
        if self._must_stay_away is not None and _has_something(self._must_stay_away):
            raise _unreadable(self._path, "an agent has started meanwhile; ask again")
        return found

    def write(self, change: Change[T]) -> NoReturn:  # noqa: ARG002
        self._refuse()

    def write_soon(self, change: Change[T], done: Done[T], failed: Failed) -> None:  # noqa: ARG002
        self._refuse()

    def write_later(self, change: Change[None]) -> None:  # noqa: ARG002
        self._refuse()

    def flush(self) -> None:
        """There is nothing to flush."""

    def _refuse(self) -> NoReturn:
        raise _unreadable(self._path, "it is opened for reading only")


class Unreadable:
    """In the place of a journal that cannot be read: whoever asks is told why."""

    def __init__(self, why: JournalUnavailable) -> None:
        self._why = why

    def read(self, query: Change[T]) -> NoReturn:  # noqa: ARG002
        raise self._why

    def write(self, change: Change[T]) -> NoReturn:  # noqa: ARG002
        raise self._why

    def write_soon(self, change: Change[T], done: Done[T], failed: Failed) -> None:  # noqa: ARG002
        raise self._why

    def write_later(self, change: Change[None]) -> None:  # noqa: ARG002
        raise self._why

    def flush(self) -> None:
        """There is nothing to flush."""


@contextmanager
def opened(directory: Path) -> Generator[ReadOnlyDatabase]:
    """The journal below a state directory. Raises JournalUnavailable when there is none, or it cannot be read.

    How, depends on what is beside it (tried with SQLite 3.40). `mode=ro` alone makes `-wal` and `-shm` where they are
    missing, and leaves them there. `immutable` reads the file without its log: right when there is none, and the past
    when there is one. `readonly_shm` reads the log through an index that is there. A log without its index, as a
    backup may have it, is read from a copy.
    """
    path = directory / FILE_NAME
    log, index = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
    try:
        path.stat()
        if not _has_something(log):
            with _connected(path, path, "&immutable=1", log) as database:
                yield database
        elif index.exists():
            with _connected(path, path, "&readonly_shm=1") as database:
                yield database
        else:
            with _copy(path, log) as copied, _connected(path, copied, "") as database:
                yield database
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


@contextmanager
def _copy(path: Path, log: Path) -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="storpool-agent-") as directory:
        for file in (path, log):
            shutil.copyfile(file, Path(directory) / file.name)
        yield Path(directory) / path.name


@contextmanager
def _connected(path: Path, file: Path, how: str, must_stay_away: Path | None = None) -> Generator[ReadOnlyDatabase]:
    try:
        connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=ro{how}", uri=True, timeout=BUSY_S, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise _unreadable(path, str(error)) from error
    try:
        database = ReadOnlyDatabase(path, connection, must_stay_away)
        version = database.read(lambda db: int(db.execute("PRAGMA user_version").fetchone()[0]))
        if version != SCHEMA_VERSION:
            raise _unreadable(path, f"it has schema {version}, this program knows {SCHEMA_VERSION}")
        yield database
    finally:
        connection.close()


def _has_something(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def _unreadable(path: Path, why: str) -> JournalUnavailable:
    return JournalUnavailable(f"journal {path} cannot be read: {why}", path=str(path), reason=why)
