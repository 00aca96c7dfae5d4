# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""When commands are left in their queues, and when they are taken again; room on the disks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from storpool_agent.clock import ClockWatch
from storpool_agent.conditions import Conditions
from storpool_agent.journal.database import BALLAST_BYTES, Database
from storpool_agent.space import Place, SpaceWatch, free_bytes

GIB = 1 << 30


class FakeGate:
    """What the consumer is told."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    def hold(self, reason: str) -> None:
        assert reason not in self.held
        self.held.add(reason)

    def release(self, reason: str) -> None:
        self.held.remove(reason)


class FakeBacklog:
    def __init__(self) -> None:
        self.queued = 0

    def is_over(self, *, again: bool) -> bool:
        return self.queued >= (750 if again else 1000)


class FakeJournal:
    is_full = False
    lost = False
    room = False

    def is_lost(self) -> bool:
        return self.lost

    def make_room(self) -> None:
        self.is_full = not self.room


class Scene:
    def __init__(self, directory: Path) -> None:
        self.gate, self.backlog, self.journal = FakeGate(), FakeBacklog(), FakeJournal()
        self.free = 10 * GIB
        places = [Place("state_dir", directory, GIB), Place("secondary.scratch_dir", directory, 0)]
        space = SpaceWatch(places, lambda _: self.free)
        self.conditions = Conditions(self.gate, self.journal, self.backlog, space, ClockWatch())

    def look(self) -> list[tuple[str, str]]:
        with capture_logs() as said:
            self.conditions.look()
        return [(line["event"], line["log_level"]) for line in said]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_nothing_wrong_is_nothing_said(scene: Scene) -> None:
    assert (scene.look(), scene.gate.held, scene.conditions.troubles) == ([], set(), ())


def test_while_the_journal_is_full_commands_stay_in_their_queues(scene: Scene) -> None:
    scene.journal.is_full = True
    assert (scene.look(), scene.look()) == ([], [])
    assert (scene.gate.held, scene.conditions.troubles) == ({"journal full"}, ("journal full",))
    scene.journal.room = True
    assert scene.look() == [("journal has room again", "info")]
    assert scene.gate.held == set()


def test_while_the_journal_is_lost_commands_stay_in_their_queues(scene: Scene) -> None:
    scene.journal.lost = True
    assert (scene.look(), scene.look()) == ([("journal lost", "error")], [])
    assert (scene.gate.held, scene.conditions.troubles) == ({"journal lost"}, ("journal lost",))
    scene.journal.lost = False
    assert scene.look() == [("journal is there again", "info")]


def test_what_is_too_much_stays_in_the_queue_until_a_quarter_is_worked_off(scene: Scene) -> None:
    scene.backlog.queued = 1000
    with capture_logs() as said:
        scene.conditions.look_at_backlog()
    assert [line["event"] for line in said] == ["commands left in the queue"]
    scene.backlog.queued = 751
    assert (scene.look(), scene.gate.held) == ([], {"overloaded"})
    scene.backlog.queued = 749
    assert (scene.look(), scene.gate.held) == ([("commands taken again", "info")], set())
    scene.backlog.queued = 999
    assert scene.look() == []


def test_little_room_is_told_once_and_again_when_there_is_clearly_more(scene: Scene) -> None:
    scene.free = GIB - 1
    assert (scene.look(), scene.look()) == ([("disk nearly full", "warning")], [])
    assert scene.conditions.troubles == ("little room in state_dir",)
    scene.free = GIB + 1
    assert scene.look() == []
    scene.free = 2 * GIB
    assert scene.look() == [("disk has room again", "info")]
    assert not scene.conditions.troubles
    assert not scene.gate.held


def test_a_file_system_that_does_not_tell_leaves_what_is_known(tmp_path: Path) -> None:
    def broken(_path: Path) -> int:
        raise OSError("stale file handle")

    space = SpaceWatch([Place("state_dir", tmp_path, GIB)], broken)
    space.look()
    assert space.low == ()


def test_a_directory_that_is_not_made_yet_has_the_room_of_its_parent(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0


# the journal's own file


@contextmanager
def opened(directory: Path) -> Iterator[Database]:
    database = Database(directory)
    yield database
    database.close()


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal"])
def test_a_journal_that_somebody_removes_is_lost(tmp_path: Path, name: str) -> None:
    with opened(tmp_path) as database:
        database.write(lambda db: db.execute("DELETE FROM command"))
        assert not database.is_lost()
        (tmp_path / name).unlink()
        assert database.is_lost()
        (tmp_path / name).touch()
        assert database.is_lost(), "another file of that name is another journal"


def test_room_is_there_when_the_ballast_can_be_laid_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as database:
        ballast = tmp_path / "ballast"
        ballast.unlink()
        database.is_full = True
        status: Any = type("Status", (), {"f_bavail": 1, "f_frsize": BALLAST_BYTES})
        with monkeypatch.context() as patch:
            patch.setattr("storpool_agent.journal.database.os.statvfs", lambda _: status)
            database.make_room()
            assert "the disk is full; free some space" in (database.trouble() or "")
        assert (database.is_full, ballast.exists()) == (True, False)
        database.make_room()
        assert (database.is_full, ballast.stat().st_size) == (False, BALLAST_BYTES)
