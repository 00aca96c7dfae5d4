# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs that are disturbed at every change that they make: killed, refused, or left without the answer.

After each change of each job the same things have to be true, whatever the job is and however far it was.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from copy_requests import SCENES
from copy_scene import How, Killed, Life, Scene, result
from storpool_agent.journal.journal import Journal
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.envelope import Failure, Success

ALL = pytest.mark.parametrize("name", SCENES)


class Stage:
    """The same scene as often as it is wanted."""

    def __init__(self, journal: Journal, directory: Path, name: str) -> None:
        self._journal, self._directory, self.name = journal, directory, name
        self._numbers = count()
        self.undisturbed = self.set()
        self.result = result(self.undisturbed.run(), self.undisturbed)
        self.after = self.undisturbed.state()

    def set(self, name: str | None = None) -> Scene:
        scene = Scene(self._journal, self._directory / str(next(self._numbers)))
        return scene.prepare(SCENES[name or self.name])

    def whole(self) -> list[list[Any]]:
        """What may be there of a job that has come to its end: with the source that it was to delete, or without; and
        with the volume that a machine has left still attached."""
        kept = self.set(self.name.removesuffix(", delete"))
        kept.run()
        states = [self.after, kept.state()]
        if "live out" in self.name:
            kept.fakes.succeed(ConnectPhysicalDisk(volume=f"~{next(iter(kept.storpool.volumes))}"))
            states.append(kept.state())
        return states

    def disturbed(self, how: How) -> Iterator[tuple[str, Scene, Success | Failure | None]]:
        """Each change in turn, with the reply unless the agent was killed."""
        for at in count(1):
            scene, life = self.set(), Life(at, how)
            try:
                reply = scene.run(life)
            except Killed:
                reply = None
                scene.die()
            if life.changes < at:
                return
            yield f"{how} at change {at}, {life.where}", scene, reply


@pytest.fixture
def stage(host_journal: Journal, memory: Path, name: str) -> Stage:
    return Stage(host_journal, memory, name)


@ALL
def test_a_job_that_is_killed_anywhere_is_finished_by_the_next_start(stage: Stage) -> None:
    for where, scene, _ in stage.disturbed("killed"):
        assert result(scene.run(attempt=2), scene) == stage.result, where
        assert scene.state() == stage.after, where


@ALL
def test_a_job_that_is_killed_twice_is_finished_all_the_same(stage: Stage) -> None:
    for where, scene, _ in stage.disturbed("killed"):
        for at in (1, 2, 4, 7):
            try:
                scene.run(Life(at), attempt=2)
            except Killed:
                scene.die()
        assert result(scene.run(attempt=3), scene) == stage.result, where
        assert scene.state() == stage.after, where


@ALL
def test_a_job_that_was_killed_and_is_not_run_again_leaves_all_or_nothing(stage: Stage) -> None:
    for where, scene, _ in stage.disturbed("killed"):
        scene.clean_up()
        assert scene.state() in (scene.before, *stage.whole()), where


@ALL
@pytest.mark.parametrize("how", ["refused", "lost"])
def test_a_job_to_which_anything_fails_says_what_it_has_left_and_leaves_it_no_longer_than_it_must(
    stage: Stage, how: How
) -> None:
    for where, scene, reply in stage.disturbed(how):
        if isinstance(reply, Failure) and reply.side_effects == "none":
            assert scene.state() == scene.before, where
        if isinstance(reply, Success):
            assert result(reply, scene) == stage.result, where
        scene.sweep()
        expected = [stage.after] if isinstance(reply, Success) else [scene.before, *stage.whole()]
        assert scene.state() in expected, where
