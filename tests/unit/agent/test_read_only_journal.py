# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A journal that is looked at from outside: read as it is, and left as it was, whatever is beside it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storpool_agent.errors import JournalUnavailable
from storpool_agent.journal import read_only
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.journal.overview import Overview

WRITER = """
import os, signal, sys
from pathlib import Path
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Arrival, Journal
journal = Journal(Database(Path(sys.argv[1])), "kvm1")
journal.accept([Arrival(f"r{number}", "ping", b"{}", None, None) for number in range(3)])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The state directory of an agent that was killed: its last commits are in the log alone."""
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run([sys.executable, "-c", WRITER, str(state)], check=False, timeout=30)
    assert {"journal.db-wal", "journal.db-shm"} <= {file.name for file in state.iterdir()}
    return state


@contextmanager
def unchanged(state: Path) -> Iterator[None]:
    def picture() -> dict[str, tuple[int, bytes]]:
        return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in state.iterdir()}

    before = picture()
    yield
    assert picture() == before


def ids(state: Path) -> list[str]:
    with read_only.opened(state) as database:
        return [entry.id for entry in Overview(database).entries(None, 10)]


def test_a_killed_agents_journal_is_read_with_its_log(killed: Path) -> None:
    with unchanged(killed):
        assert ids(killed) == ["r2", "r1", "r0"]


def test_a_log_without_its_index_is_read_all_the_same(killed: Path) -> None:
    (killed / "journal.db-shm").unlink()
    with unchanged(killed):
        assert ids(killed) == ["r2", "r1", "r0"]


def test_a_stopped_agents_journal_is_read_and_no_file_is_made_beside_it(tmp_path: Path) -> None:
    database = Database(tmp_path)
    Journal(database, "kvm1").accept([Arrival("r0", "ping", b"{}", None, None)])
    database.close()
    assert not (tmp_path / "journal.db-wal").exists()
    with unchanged(tmp_path):
        assert ids(tmp_path) == ["r0"]


def test_a_running_agents_journal_is_read_as_of_now(tmp_path: Path) -> None:
    database = Database(tmp_path)
    journal = Journal(database, "kvm1")
    with read_only.opened(tmp_path) as looking:
        for number in range(3):
            journal.accept([Arrival(f"r{number}", "ping", b"{}", None, None)])
            assert Overview(looking).counts().unfinished == number + 1
    database.close()


def test_what_begins_to_write_meanwhile_is_noticed(tmp_path: Path) -> None:
    Database(tmp_path).close()
    with read_only.opened(tmp_path) as looking:
        database = Database(tmp_path)
        with pytest.raises(JournalUnavailable, match="an agent has started meanwhile; ask again"):
            Overview(looking).counts()
        database.close()


def test_there_is_no_way_to_write(killed: Path) -> None:
    with read_only.opened(killed) as database, pytest.raises(JournalUnavailable, match="for reading only"):
        Journal(database, "kvm1").start("r0")


def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with (
        pytest.raises(JournalUnavailable, match=r"journal\.db cannot be read: No such file"),
        read_only.opened(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_another_version_is_not_guessed_at(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.write(lambda db: db.execute("PRAGMA user_version = 99"))
    database.close()
    with pytest.raises(JournalUnavailable, match="it has schema 99"), read_only.opened(tmp_path):
        pass


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "journal.db")
    with pytest.raises(JournalUnavailable, match="not a database"), read_only.opened(tmp_path):
        pass
