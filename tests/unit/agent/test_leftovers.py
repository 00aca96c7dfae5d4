# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What copies could not take away: taken away as soon as that can be done, and never from under a copy that runs."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from copy_requests import SCENES
from copy_scene import Scene
from fake_outbox import FakeOutbox
from storpool_agent import leftovers
from storpool_agent.errors import CopyFailed, JournalUnavailable, StorPoolUnavailable
from storpool_agent.handlers import temporaries
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.journal.temporaries import ATTACHMENT, USE, Temporary
from storpool_agent.lanes import Lane, Lanes
from storpool_agent.leftovers import Leftovers
from storpool_agent.locks import Turn, volume_key

WAIT_S = 5.0


class Watch:
    """Leftovers over a scene; `looked` is counted up with every look."""

    def __init__(self, journal: Journal, directory: Path) -> None:
        self.scene = Scene(journal, directory)
        self.lane = Lane("none", 1)
        self.jobs = Jobs(self.scene.fakes.host, journal, cast(Any, FakeOutbox()), Lanes(*[self.lane] * 4))
        self.leftovers = Leftovers(self.scene.fakes.host, journal, self.jobs)
        self.looked = threading.Semaphore(0)
        secondary = self.scene.fakes.secondary
        secondary.sweep = self.looked.release  # type: ignore[method-assign]

    def look(self) -> None:
        assert self.looked.acquire(timeout=WAIT_S)

    def look_until_gone(self) -> None:
        """What is left is looked at again by itself."""
        while self.scene.journal.temporaries.left():
            self.look()
        self.leftovers.stop()
        assert self.scene.state() == self.scene.before


@pytest.fixture
def watch(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr(leftovers, "AGAIN_S", 0.01)
    watch = Watch(journal, tmp_path / "secondary")
    yield watch
    if watch.leftovers._thread.is_alive():
        watch.leftovers.stop()


def failed(scene: Scene, name: str) -> None:
    """A copy that could take away nothing, and has its reply."""
    scene.prepare(SCENES[name])
    scene.fakes.images.failing["convert"] = CopyFailed("it failed")
    scene.fakes.storpool.failures["delete_volume"] = [StorPoolUnavailable("away")] * 3
    scene.fakes.storpool.failures["detach"] = [StorPoolUnavailable("away")] * 3
    scene.run()
    scene.journal.finish(str(scene.request.id), b"")
    assert scene.state() != scene.before


@pytest.mark.parametrize("name", ["downloadVolume", "downloadTemplate", "copyVolumeToSecondary", "backupSnapshot"])
def test_what_is_left_is_tried_until_it_is_gone(watch: Watch, name: str) -> None:
    failed(watch.scene, name)
    watch.leftovers.start()
    watch.look_until_gone()


def test_when_nothing_is_left_it_sleeps_until_a_copy_has_ended(watch: Watch) -> None:
    watch.leftovers.start()
    watch.look()
    assert not watch.looked.acquire(timeout=0.1)
    failed(watch.scene, "backupSnapshot")
    watch.jobs._copy_ended()
    watch.look_until_gone()


def test_what_a_running_copy_has_is_not_touched(watch: Watch) -> None:
    scene = watch.scene
    scene.prepare(SCENES["downloadVolume"])
    seen: list[list[Any]] = []

    def look() -> None:
        seen.append(scene.state())
        watch.leftovers.start()
        watch.look()
        seen.append(scene.state())

    scene.meanwhile("convert", look)
    scene.succeed()
    assert seen[0] == seen[1] != scene.before


def test_what_another_copy_still_uses_stays_attached(watch: Watch) -> None:
    scene = watch.scene
    failed(scene, "backupSnapshot")
    (snapshot,) = scene.fakes.storpool.volumes
    other = str(uuid4())
    scene.journal.accept([Arrival(other, "backupSnapshot", b"", None, None)])
    scene.journal.temporaries.add(Temporary(other, USE, snapshot))
    scene.fakes.storpool.failures.clear()
    watch.leftovers.start()
    watch.look()
    watch.leftovers.stop()
    assert list(scene.fakes.storpool.attached) == [(snapshot, 1)]
    assert scene.journal.temporaries.with_target(ATTACHMENT, snapshot) == [Temporary(other, ATTACHMENT, snapshot)]
    assert scene.journal.temporaries.left() == []


def test_a_stop_waits_for_nobody_who_has_what_is_to_be_taken_away(watch: Watch) -> None:
    failed(watch.scene, "backupSnapshot")
    (snapshot,) = watch.scene.fakes.storpool.volumes
    taken = Turn(frozenset({volume_key(snapshot)}), lambda: None)
    watch.jobs._locks.enter(taken)
    watch.leftovers.start()
    while len(watch.jobs._locks._queues[volume_key(snapshot)]) < 2:
        watch.leftovers._thread.join(0.001)
    watch.leftovers.stop()
    watch.jobs._locks.leave(taken)
    assert watch.scene.journal.temporaries.left()


def test_a_defect_in_one_keeps_no_other_from_being_taken_away(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(watch.scene, "downloadVolume")
    watch.scene.fakes.storpool.failures.clear()
    take_away = temporaries.take_away

    def defective(one: Temporary, *rest: Any) -> None:
        if one.command == "gone":
            raise ZeroDivisionError
        take_away(one, *rest)

    monkeypatch.setattr(temporaries, "take_away", defective)
    watch.scene.journal.temporaries.add(Temporary("gone", USE, "a.b.c"))
    watch.leftovers.start()
    for _ in range(3):
        watch.look()
    watch.leftovers.stop()
    assert watch.scene.state() == watch.scene.before
    assert [one.command for one in watch.scene.journal.temporaries.left()] == ["gone"]


def test_a_journal_that_cannot_be_read_is_tried_again(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(watch.scene, "downloadVolume")
    watch.scene.fakes.storpool.failures.clear()
    left, errors = watch.scene.journal.temporaries.left, [JournalUnavailable("full")] * 2

    def reading() -> list[Temporary]:
        if errors:
            raise errors.pop()
        return left()

    monkeypatch.setattr(watch.scene.journal.temporaries, "left", reading)
    watch.leftovers.start()
    watch.look()
    watch.leftovers.stop()
    assert watch.scene.state() == watch.scene.before
