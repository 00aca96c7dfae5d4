# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The database file: commits that are shared, failures that are not, and files that are left alone."""

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from storpool_agent.errors import JournalUnavailable
from storpool_agent.journal import database as journal_database
from storpool_agent.journal import schema
from storpool_agent.journal.database import BALLAST_BYTES, Database
from storpool_agent.journal.schema import SCHEMA_VERSION


def fence(global_id: str, generation: int = 1) -> object:
    return lambda db: db.execute("INSERT INTO fence VALUES (?, ?)", (global_id, generation)) and None


def fences(database: Database) -> set[str]:
    return {row[0] for row in database.read(lambda db: db.execute("SELECT global_id FROM fence").fetchall())}


def test_a_new_file_has_this_versions_tables_and_is_nobody_elses_to_read(tmp_path: Path, database: Database) -> None:
    assert database.schema_version == SCHEMA_VERSION
    assert database.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (SCHEMA_VERSION,)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes["journal.db"] == modes["ballast"] == 0o600
    assert set(modes.values()) == {0o600}


def test_commits_are_synced_before_they_return(database: Database) -> None:
    assert database._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database._writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_write_that_has_returned_is_seen(database: Database) -> None:
    database.write(fence("a"))  # type: ignore[arg-type]
    assert fences(database) == {"a"}


def test_writers_that_wait_share_a_commit(database: Database) -> None:
    commits: list[str] = []
    database._writer.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    threads = [threading.Thread(target=database.write, args=(fence(str(number)),)) for number in range(20)]
    with database._write_lock:
        for thread in threads:
            thread.start()
        while len(database._waiting) < 20:
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join(5)
    assert len(fences(database)) == 20
    assert len(commits) == 1


def test_a_change_that_fails_fails_alone(database: Database) -> None:
    failures: list[Exception] = []

    def spoil() -> None:
        try:
            database.write(lambda _db: 1 / 0)
        except ZeroDivisionError as error:
            failures.append(error)

    threads = [threading.Thread(target=database.write, args=(fence(str(number)),)) for number in range(3)]
    threads.append(threading.Thread(target=spoil))
    with database._write_lock:
        for thread in threads:
            thread.start()
        while len(database._waiting) < 4:
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join(5)
    assert fences(database) == {"0", "1", "2"}
    assert len(failures) == 1


def test_what_is_left_for_later_goes_with_the_next_commit(database: Database) -> None:
    database.write_later(fence("later"))  # type: ignore[arg-type]
    assert fences(database) == set()
    database.write(fence("now"))  # type: ignore[arg-type]
    assert fences(database) == {"later", "now"}


def test_closing_commits_what_is_left(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.write_later(fence("later"))  # type: ignore[arg-type]
    database.close()
    again = Database(tmp_path)
    assert fences(again) == {"later"}
    again.close()


def test_a_failed_write_says_which_file_and_what_to_look_at(tmp_path: Path, database: Database) -> None:
    with pytest.raises(JournalUnavailable, match="no such table") as failure:
        database.write(lambda db: db.execute("INSERT INTO nowhere VALUES (1)"))
    assert failure.value.facts["path"] == str(tmp_path / "journal.db")


def test_a_file_of_an_older_agent_is_brought_up_to_date_with_what_is_in_it(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "journal.db")
    connection.executescript(f"{schema._V1} PRAGMA user_version = 1;")
    connection.execute("INSERT INTO command VALUES (1, 'r1', '', '', 'ping', NULL, '', 0, 'accepted', 0, NULL, NULL)")
    connection.commit()
    connection.close()
    database = Database(tmp_path)
    assert database.read(lambda db: db.execute("SELECT id, shared FROM command").fetchall()) == [("r1", 0)]
    assert database.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (SCHEMA_VERSION,)
    database.close()


def test_a_file_of_a_newer_agent_is_refused_and_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "journal.db")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(JournalUnavailable, match="written by a newer agent"):
        Database(tmp_path)
    connection = sqlite3.connect(tmp_path / "journal.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("content", [b"not a database, but long enough to have a header" * 100, b"\x00" * 4096])
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(JournalUnavailable, match="look at its file system") as failure:
        Database(tmp_path)
    assert str(path) in str(failure.value)
    assert path.read_bytes() == content


def test_a_file_of_this_version_is_opened_as_it_is(tmp_path: Path) -> None:
    first = Database(tmp_path)
    first.write(fence("kept"))  # type: ignore[arg-type]
    first.close()
    second = Database(tmp_path)
    assert fences(second) == {"kept"}
    second.close()


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalUnavailable, match="Not a directory"):
        Database(tmp_path / "file")


def test_some_room_is_kept_for_replies(tmp_path: Path, database: Database) -> None:
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= BALLAST_BYTES


def test_a_file_of_the_first_version_is_brought_to_this_one(tmp_path: Path) -> None:
    """With what is in it."""
    connection = sqlite3.connect(tmp_path / "journal.db")
    connection.executescript(schema._V1)
    connection.executescript("PRAGMA user_version = 1; INSERT INTO fence VALUES ('a', 1);")
    connection.close()
    database = Database(tmp_path)
    fresh = Database(fresh_directory(tmp_path))
    assert fences(database) == {"a"}
    assert tables(database) == tables(fresh)
    fresh.close()
    database.close()


def fresh_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "fresh"
    directory.mkdir()
    return directory


def tables(database: Database) -> set[tuple[str, str]]:
    query = "SELECT name, sql FROM sqlite_schema"
    return set(database.read(lambda db: db.execute(query).fetchall()))


def test_a_journal_that_was_just_written_is_well_without_a_commit(database: Database) -> None:
    database.write(fence("a"))  # type: ignore[arg-type]
    commits = traced(database)
    assert database.trouble() is None
    assert commits == []


def test_one_that_was_not_written_for_long_is_written_to_know(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_database, "FRESH_S", -1.0)
    commits = traced(database)
    assert database.trouble() is None
    assert commits == ["COMMIT"]
    assert database.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (SCHEMA_VERSION,)


def test_trouble_is_told_until_a_commit_succeeds(tmp_path: Path, database: Database) -> None:
    database._writer.execute("PRAGMA query_only = ON")
    with pytest.raises(JournalUnavailable):
        database.write(fence("a"))  # type: ignore[arg-type]
    told = database.trouble()
    assert told is not None
    assert told.startswith(f"journal {tmp_path}/journal.db: ")
    database._writer.execute("PRAGMA query_only = OFF")
    assert database.trouble() is None


def test_who_asks_does_not_wait_for_a_commit_that_hangs(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_database, "PATIENCE_S", 0.01)
    with database._write_lock:
        told = database.trouble()
    assert told is not None
    assert "a commit takes longer" in told


def test_the_files_sizes_are_told(tmp_path: Path, database: Database) -> None:
    assert set(database.sizes()) == {"journal.db", "journal.db-wal", "ballast"}
    (tmp_path / "ballast").unlink()
    assert set(database.sizes()) == {"journal.db", "journal.db-wal"}
    assert all(database.sizes().values())


def traced(database: Database) -> list[str]:
    commits: list[str] = []
    database._writer.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    return commits
