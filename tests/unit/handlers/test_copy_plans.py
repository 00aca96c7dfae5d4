# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs with dryRun, in every way that there is: their checks, their steps, and not one change."""

import pytest

from copy_requests import SCENES, Maker
from copy_scene import FILE, STORE, TARGET, Scene
from storpool_commands.catalogue import Command
from storpool_commands.copies import BackupSnapshot
from storpool_commands.dry_run import DryRun
from storpool_commands.envelope import Failure, Success
from storpool_commands.errors import ErrorCode
from storpool_commands.images import StoredImage


@pytest.mark.parametrize("name", SCENES)
def test_a_plan_has_the_steps_of_the_run_and_changes_nothing(scene: Scene, name: str) -> None:
    scene.prepare(SCENES[name])
    plan = scene.plan()
    assert isinstance(plan, Success), plan
    assert isinstance(plan.result, DryRun)
    assert "planned" in [step.status for step in plan.steps]
    assert scene.state() == scene.before
    done = scene.run()
    assert isinstance(done, Success), done
    assert [step.step for step in plan.steps] == [step.step for step in done.steps]


def there_already(scene: Scene) -> Command:
    scene.file(b"another's", TARGET)
    return SCENES["backupSnapshot"](scene)


def not_allowed(scene: Scene) -> Command:
    scene.fakes.secondary.not_allowed.add(STORE)
    return SCENES["backupSnapshot"](scene)


def not_there(scene: Scene) -> Command:
    command = SCENES["downloadVolume"](scene)
    scene.at(FILE).unlink()
    return command


def no_template(scene: Scene) -> Command:
    scene.fakes.storpool.template_names.clear()
    return SCENES["downloadVolume"](scene)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (there_already, ErrorCode.FILE_EXISTS),
        (not_allowed, ErrorCode.SECONDARY_NOT_ALLOWED),
        (not_there, ErrorCode.IMAGE_NOT_FOUND),
        (no_template, ErrorCode.TEMPLATE_NOT_FOUND),
    ],
)
def test_what_a_copy_would_be_refused_for_its_plan_is(scene: Scene, make: Maker, code: ErrorCode) -> None:
    scene.prepare(make)
    plan = scene.plan()
    assert isinstance(plan, Failure)
    assert (plan.code, plan.side_effects) == (code, "none")
    scene.fail(code)


def test_a_server_is_not_mounted_for_a_plan(scene: Scene) -> None:
    def make(scene: Scene) -> Command:
        snapshot = str(scene.volume(snapshot=True).reference)
        return BackupSnapshot(snapshot=snapshot, target=StoredImage(store="nfs://10.0.0.1/export", path="x"))

    scene.prepare(make)
    acquire = scene.fakes.secondary.acquire
    scene.fakes.secondary.acquire = lambda *_: pytest.fail("it was mounted")  # type: ignore[method-assign]
    assert isinstance(scene.plan(), Success)
    scene.fakes.secondary.acquire = acquire  # type: ignore[method-assign]
