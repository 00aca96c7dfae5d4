# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The journal's list of what is there for as long as copies run, and the file that it came to."""

import sqlite3
from pathlib import Path
from uuid import uuid4

import pytest

from storpool_agent.journal import schema
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.journal.temporaries import ATTACHMENT, USE, Temporary, TemporaryRows
from storpool_agent.journal.thaws import PendingThaw
from storpool_agent.journal.unplugs import PendingUnplug

ONE, TWO = Temporary("r-1", USE, "a.b.c"), Temporary("r-1", "part", "x")
OTHER = Temporary("r-2", USE, "a.b.c")


@pytest.fixture
def rows(journal: Journal) -> TemporaryRows:
    return journal.temporaries


def accepted(journal: Journal) -> str:
    request_id = str(uuid4())
    journal.accept([Arrival(request_id, "backupSnapshot", b"", None, None)])
    return request_id


def test_what_was_made_last_comes_first(rows: TemporaryRows) -> None:
    for one in (ONE, TWO, OTHER, ONE):
        rows.add(one)
    assert rows.of("r-1") == [TWO, ONE]
    assert rows.of("r-3") == []


def test_all_that_use_an_object_are_found(rows: TemporaryRows) -> None:
    for one in (ONE, TWO, OTHER):
        rows.add(one)
    assert rows.with_target(USE, "a.b.c") == [ONE, OTHER]
    assert rows.of_kind(USE) == [ONE, OTHER]
    assert rows.with_target(ATTACHMENT, "a.b.c") == []


def test_what_is_struck_out_is_gone_and_nothing_else(rows: TemporaryRows) -> None:
    for one in (ONE, TWO, OTHER):
        rows.add(one)
    rows.strike(ONE)
    rows.strike(ONE)
    assert (rows.of("r-1"), rows.of("r-2")) == ([TWO], [OTHER])


def test_one_row_takes_the_place_of_others_in_one_commit(rows: TemporaryRows) -> None:
    rows.add(ONE)
    rows.change(add=[TWO, OTHER], strike=[ONE])
    assert (rows.of("r-1"), rows.of("r-2")) == ([TWO], [OTHER])


def test_a_row_that_is_struck_out_and_added_at_once_is_there(rows: TemporaryRows) -> None:
    rows.add(ONE)
    rows.change(add=[ONE], strike=[ONE])
    assert rows.of("r-1") == [ONE]


def test_what_belongs_to_somebody_else_now_is_struck_out_for_all(rows: TemporaryRows) -> None:
    for command in ("r-1", "r-2"):
        rows.add(Temporary(command, ATTACHMENT, "a.b.c"))
    assert rows.give_away(ATTACHMENT, "a.b.c")
    assert not rows.give_away(ATTACHMENT, "a.b.c")
    assert rows.of_kind(ATTACHMENT) == []


def test_left_is_what_nobody_runs_any_more(journal: Journal) -> None:
    rows = journal.temporaries
    accepted_only, running, finished = (accepted(journal) for _ in range(3))
    journal.start(running)
    for command in (accepted_only, running, finished, "forgotten"):
        rows.add(Temporary(command, USE, "a.b.c"))
    journal.finish(finished, b"")
    assert [one.command for one in rows.left()] == ["forgotten", finished]


def test_it_outlives_the_process_and_its_request(tmp_path: Path) -> None:
    database = Database(tmp_path)
    Journal(database, "kvm1").temporaries.add(ONE)
    database.close()
    database = Database(tmp_path)
    assert Journal(database, "kvm1").temporaries.left() == [ONE]
    database.close()


def test_a_stop_says_nothing_against_a_request(journal: Journal) -> None:
    request_id = accepted(journal)
    for _ in range(2):
        journal.start(request_id)
        journal.stop(request_id)
    journal.start(request_id)
    (stored,) = journal.unfinished()
    assert (stored.attempts, stored.stops) == (3, 2)


def version_3(directory: Path) -> None:
    """A journal of the version before copies, with something in each of its tables."""
    connection = sqlite3.connect(directory / "journal.db", isolation_level=None)
    connection.executescript("".join(schema._STEPS[:3]) + "PRAGMA user_version = 3;")
    added = (
        "INSERT INTO command (seq, id, digest, request, name, reply_to, received_at, state, attempts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    for row in (
        (1, "done", b"d", b"{}", "ping", "mgmt", 1.0, "finished", 1),
        (2, "running", b"d", b"{}", "createVolume", "mgmt", 2.0, "running", 2),
    ):
        connection.execute(added, row)
    connection.execute("UPDATE command SET reply = x'72', finished_at = 1.0 WHERE id = 'done'")
    connection.execute("INSERT INTO note VALUES ('running', 'attach', 'a.b.c')")
    connection.execute("INSERT INTO fence VALUES ('a.b.c', 7)")
    connection.execute("INSERT INTO pending_unplug VALUES ('a.b.c', 'vm', 'running', 1.0)")
    connection.execute("INSERT INTO pending_thaw VALUES ('vm', 'running', 1.0)")
    connection.close()


def test_a_journal_of_the_version_before_is_read_as_it_was(tmp_path: Path) -> None:
    version_3(tmp_path)
    database = Database(tmp_path)
    journal = Journal(database, "kvm1")
    (stored,) = journal.unfinished()
    assert (stored.id, stored.attempts, stored.stops) == ("running", 2, 0)
    done = journal.record("done")
    assert done is not None
    assert (done.state, done.reply) == ("finished", b"r")
    assert journal.noted("running", "attach", "a.b.c")
    assert journal.fence("a.b.c") == 7
    assert journal.unplugs.pending() == [PendingUnplug("a.b.c", "vm", "running")]
    assert journal.thaws.pending() == [PendingThaw("vm", "running", 1.0)]
    assert journal.temporaries.left() == []
    journal.temporaries.add(Temporary("running", USE, "a.b.c"))
    journal.stop("running")
    assert journal.unfinished()[0].stops == 1
    database.close()


def test_a_journal_is_brought_to_this_version_once(tmp_path: Path) -> None:
    version_3(tmp_path)
    for _ in range(2):
        database = Database(tmp_path)
        assert database.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (schema.SCHEMA_VERSION,)
        database.close()
