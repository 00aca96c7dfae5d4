# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The database file: one writer at a time, one commit for all that wait for one."""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

import structlog

from storpool_agent import metrics
from storpool_agent.crash import hang_point
from storpool_agent.errors import JournalUnavailable
from storpool_agent.journal.schema import SCHEMA_VERSION, migrate

log = structlog.get_logger()

FRESH_S = 5.0
"""A commit that is no older proves that the journal can be written."""
PATIENCE_S = 1.0
"""How long who only asks waits for a commit that is under way."""

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], T]
Done = Callable[[T], None]
Failed = Callable[[Exception], None]

FILE_NAME = "journal.db"
"""Below the state directory."""

BALLAST_BYTES = 4 * 1024 * 1024
"""Given back to the file system when it is full, so that what runs can still store its replies."""

ROOM_BYTES = 1024 * 1024
"""What has to be free besides the ballast before a full disk is called one with room."""

LOG_BYTES = 4 * 1024 * 1024
"""SQLite starts its log over after 1,000 pages (its default of wal_autocheckpoint)."""


class Stores(Protocol):
    """A database, as the rules of the journal see it. Every method may raise JournalUnavailable."""

    def read(self, query: Change[T]) -> T: ...

    def write(self, change: Change[T]) -> T: ...

    def write_soon(self, change: Change[T], done: Done[T], failed: Failed) -> None: ...

    def write_later(self, change: Change[None]) -> None: ...

    def flush(self) -> None: ...


@dataclass
class _Waiting(Generic[T]):
    change: Change[T]
    told: Callable[["_Waiting[T]"], None] | None = None
    """Who is told of the end, unless it waits for it."""
    result: T | None = None
    error: Exception | None = None
    done: bool = False


class Database:
    """Transactions that are on disk when `write` returns.

    WAL with synchronous=FULL: a commit is one fdatasync (SQLite documentation, "Performance considerations" of
    WAL). What is to be written while one thread commits is written by it, or by the first that waits, in one
    transaction, so the price of the sync is shared. Any thread may call any method.
    """

    def __init__(self, directory: Path) -> None:
        """Raises JournalUnavailable with what is wrong with the directory or the file."""
        self._path = directory / FILE_NAME
        self._ballast = directory / "ballast"
        self._waiting: list[_Waiting[Any]] = []
        self._urgent = False
        self._waiting_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._committed_at: float | None = None
        """None when the last commit failed."""
        self._committing_since: float | None = None
        self.is_full = False
        """A write has found no room; until `make_room` has found some, what is written lives on the ballast."""
        try:
            self._writer = _open(self._path)
            migrate(self._writer)
            self._reader = _open(self._path)
            self._lay_ballast()
            self._lay_log()
            files = (self._path, Path(f"{self._path}-wal"))
            self._files = {file: known for file in files if (known := _identity(file)) is not None}
        except (sqlite3.Error, OSError) as error:
            raise _unavailable(self._path, error) from error

    @property
    def schema_version(self) -> int:
        return SCHEMA_VERSION

    def is_lost(self) -> bool:
        """Somebody has removed the file, or put another in its place: what is written now no start will find."""
        return any(_identity(file) != known for file, known in self._files.items())

    def make_room(self) -> None:
        """Lay the ballast anew, if there is room for it: then there is room."""
        try:
            status = os.statvfs(self._path.parent)
            if status.f_bavail * status.f_frsize >= BALLAST_BYTES + ROOM_BYTES:
                self.is_full = not self._lay_ballast()
        except OSError as error:
            log.debug("space not known", path=str(self._path), reason=str(error))

    def under_way_s(self) -> float:
        """For how long the present commit has been made; 0 when none is."""
        since = self._committing_since
        return 0.0 if since is None else monotonic() - since

    def write(self, change: Change[T]) -> T:
        """Run the change in a transaction; when this returns it is on disk.

        A change may run twice (alone, when another of its batch failed), so it acts on the database alone.
        Raises JournalUnavailable, and whatever the change raises.
        """
        mine = _Waiting(change)
        self._queue(mine)
        batch: list[_Waiting[Any]] = []
        with self._write_lock:
            if not mine.done:
                batch = self._commit_waiting()
        _tell(batch)
        self._commit_urgent()
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value]

    def write_soon(self, change: Change[T], done: Done[T], failed: Failed) -> None:
        """Run the change with the next commit, which is made at once, and tell when it is on disk.

        The thread that happens to commit tells it: this one, or one that is about to write something of its own.
        So what is told neither waits nor writes.
        """

        def told(mine: _Waiting[T]) -> None:
            if mine.error is not None:
                failed(mine.error)
            else:
                done(mine.result)  # type: ignore[arg-type]

        with self._waiting_lock:
            self._waiting.append(_Waiting(change, told))
            self._urgent = True
        self._commit_urgent()

    def write_later(self, change: Change[None]) -> None:
        """Run the change with the next commit, or at `flush`. A crash may lose it."""
        self._queue(_Waiting(change, self._report_lost))

    def flush(self) -> None:
        """Commit what was left for later. Raises JournalUnavailable."""
        with self._write_lock:
            batch = self._commit_waiting()
        _tell(batch)
        self._commit_urgent()

    def read(self, query: Change[T]) -> T:
        """Run a query; it sees every write that has returned. Raises JournalUnavailable."""
        with self._read_lock:
            try:
                return query(self._reader)
            except sqlite3.Error as error:
                raise _unavailable(self._path, error) from error

    def trouble(self) -> str | None:
        """Why it cannot be written, or None. Where nothing was written lately it makes a commit, to know."""
        if self.is_full:
            self.make_room()
        if self.is_full:
            return f"journal {self._path}: the disk is full; free some space there"
        if not self._write_lock.acquire(timeout=PATIENCE_S):
            return f"journal {self._path}: a commit takes longer than {PATIENCE_S:.0f} s; look at its disk"
        try:
            if self._committed_at is None or monotonic() - self._committed_at > FRESH_S:
                self._transaction([_Waiting(_touch)])
        except sqlite3.Error as error:
            return str(_unavailable(self._path, error))
        finally:
            self._write_lock.release()
        return None

    def sizes(self) -> dict[str, int]:
        """Bytes by file; the ballast is gone while the disk is full."""
        files = (self._path, self._path.with_name("journal.db-wal"), self._ballast)
        return {file.name: file.stat().st_size for file in files if file.exists()}

    def close(self) -> None:
        self.flush()
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    def _queue(self, one: _Waiting[Any]) -> None:
        with self._waiting_lock:
            self._waiting.append(one)

    def _commit_urgent(self) -> None:
        """Until nothing urgent is left, or another thread commits: it comes here when it is done."""
        while self._urgent and self._write_lock.acquire(blocking=False):
            try:
                batch = self._commit_waiting()
            finally:
                self._write_lock.release()
            _tell(batch)

    def _commit_waiting(self) -> list[_Waiting[Any]]:
        """Returns what is to be told once the lock is released."""
        with self._waiting_lock:
            batch, self._waiting = self._waiting, []
            self._urgent = False
        if not batch:
            return batch
        self._committing_since = monotonic()
        hang_point("journal")
        try:
            self._transaction(batch)
        except Exception:  # noqa: BLE001 - each change is run again alone, and fails alone
            for one in batch:
                self._alone(one)
        self._committing_since = None
        for one in batch:
            one.done = True
        return batch

    def _report_lost(self, one: _Waiting[None]) -> None:
        if one.error is not None:
            log.warning("journal write lost", path=str(self._path), reason=str(one.error))

    def _transaction(self, batch: list[_Waiting[Any]]) -> None:
        started = monotonic()
        self._committed_at = None
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            for one in batch:
                one.result = one.change(self._writer)
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        self._committed_at = monotonic()
        metrics.committed(self._committed_at - started)

    def _alone(self, one: _Waiting[Any]) -> None:
        try:
            self._transaction([one])
        except sqlite3.Error as error:
            self._drop_ballast(error)
            one.error = _unavailable(self._path, error)
            one.error.__cause__ = error
        except Exception as error:  # noqa: BLE001 - it belongs to the thread that waits, which raises it
            one.error = error

    def _lay_ballast(self) -> bool:
        """A journal on a full disk opens without ballast; the next start lays it. Whether it is there."""
        handle = os.open(self._ballast, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, BALLAST_BYTES)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            log.warning("journal ballast missing", path=str(self._ballast), reason=str(error))
            return False
        finally:
            os.close(handle)
        return True

    def _lay_log(self) -> None:
        """Grow the log to the size at which it starts over, so that no commit has to.

        A commit into a log that grows waits for the file system's own journal besides: 1.1 ms against 0.2 ms (ext4).
        """
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.execute("CREATE TABLE IF NOT EXISTS room (space BLOB)")
            self._writer.execute("INSERT INTO room VALUES (zeroblob(?))", (LOG_BYTES,))
            self._writer.execute("COMMIT")
            self._writer.execute("DROP TABLE room")
            self._writer.execute("PRAGMA wal_checkpoint(RESTART)")
        except sqlite3.OperationalError as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            log.warning("journal log not laid", path=str(self._path), reason=str(error))

    def _drop_ballast(self, error: sqlite3.Error) -> None:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            return
        self._ballast.unlink(missing_ok=True)
        if not self.is_full:
            self.is_full = True
            log.error("journal full", path=str(self._path), reason=str(error))


def _touch(db: sqlite3.Connection) -> None:
    """Writes the first page anew, and nothing else."""
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _identity(file: Path) -> tuple[int, int] | None:
    """None: it is not there, or its file system does not say."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _tell(batch: list[_Waiting[Any]]) -> None:
    for one in batch:
        if one.told is not None:
            one.told(one)


def _unavailable(path: Path, error: Exception) -> JournalUnavailable:
    hint = "free some space there" if "full" in str(error) else "look at its file system and permissions"
    return JournalUnavailable(f"journal {path}: {error}; {hint}", path=str(path), reason=str(error))


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection
