# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the agent around the call that makes something: one object, one reply."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent_process import Stack, running_stack
from integration.agent.crashing import through_a_crash, through_a_lost_answer
from storpool_commands.snapshots import RevertSnapshot, TakeSnapshot
from storpool_commands.vm_snapshots import RevertVmSnapshot, TakenVmSnapshot, TakeVmSnapshot, VolumeAndSnapshot
from storpool_commands.volumes import (
    CreateVolume,
    CreateVolumeFromSnapshot,
    CreateVolumeFromTemplate,
    DeleteVolume,
)

pytestmark = pytest.mark.long

MIB = 1 << 20

Make = Callable[[Stack], Any]
"""The command, with what it needs made beforehand."""


@pytest.fixture(scope="module")
def stack(services: None) -> Iterator[Stack]:
    with running_stack(start=False) as running:
        yield running


def a_snapshot(stack: Stack, volume: str | None = None) -> str:
    volume = volume or stack.create()
    return f"~{stack.storpool.call('POST', f'VolumeSnapshot/{volume}', {})['snapshotGlobalId']}"


def a_revert(stack: Stack) -> RevertSnapshot:
    volume = stack.create()
    return RevertSnapshot(volume=volume, snapshot=a_snapshot(stack, volume), safety_snapshot=True)


def a_pair(stack: Stack) -> VolumeAndSnapshot:
    volume = stack.create()
    return VolumeAndSnapshot(volume=volume, snapshot=a_snapshot(stack, volume))


def objects(stack: Stack) -> dict[str, str]:
    """Every volume and snapshot that is not deleted, by global id: the operation that made it."""
    volumes, snapshots = (stack.storpool.call("GET", query) for query in ("VolumesList", "SnapshotsList"))
    listed = [*volumes, *(one for one in snapshots if not one["deleted"])]
    return {one["globalId"]: one["tags"].get("sp-op", "") for one in listed}


CREATING = [
    pytest.param(
        lambda _stack: CreateVolume(size_bytes=MIB, template="dev"), "VolumeCreate", "create", id="createVolume"
    ),
    pytest.param(
        lambda stack: CreateVolumeFromTemplate(snapshot=a_snapshot(stack), template="dev"),
        "VolumeCreate",
        "create",
        id="createVolumeFromTemplate",
    ),
    pytest.param(
        lambda stack: CreateVolumeFromSnapshot(snapshot=a_snapshot(stack)),
        "VolumeCreate",
        "create",
        id="createVolumeFromSnapshot",
    ),
    pytest.param(lambda stack: TakeSnapshot(volume=stack.create()), "VolumeSnapshot", "take", id="takeSnapshot"),
    pytest.param(
        lambda stack: DeleteVolume(volume=stack.create(), delete_after_s=3600),
        "VolumeSnapshot",
        "keep",
        id="deleteVolume",
    ),
    pytest.param(a_revert, "VolumeSnapshot", "safety", id="revertSnapshot"),
]


@pytest.mark.parametrize(("make", "query", "step"), CREATING)
def test_creating_commands_survive_a_lost_answer(stack: Stack, make: Make, query: str, step: str) -> None:
    """The agent is killed when StorPool has made the object and not yet said so."""
    command = make(stack)
    before = objects(stack)
    result = through_a_lost_answer(stack, command, query, lambda: bool(objects(stack).keys() - before.keys()))
    assert_one_object(before, objects(stack), result)


@pytest.mark.parametrize(("make", "query", "step"), CREATING)
def test_creating_commands_survive_a_crash_after_the_answer(stack: Stack, make: Make, query: str, step: str) -> None:
    command = make(stack)
    before = objects(stack)
    result = through_a_crash(stack, command, f"{command.command}/{step}:done")
    assert_one_object(before, objects(stack), result)


@pytest.mark.parametrize("step", ["delete", "keep"])
def test_a_deleted_volume_is_kept_once(stack: Stack, step: str) -> None:
    volume, before = stack.create(), objects(stack)
    result = through_a_crash(stack, DeleteVolume(volume=volume, delete_after_s=3600), f"deleteVolume/{step}:done")
    assert (result.global_id, result.deleted_now) == (volume[1:], True)
    assert_one_object(before, objects(stack), result)
    assert volume[1:] not in objects(stack)


@pytest.mark.parametrize("step", ["revert", "mark", "limits"])
def test_a_revert_is_finished_with_the_limits_from_before(stack: Stack, step: str) -> None:
    command = a_revert(stack)
    stack.storpool.call("POST", f"VolumeUpdate/{command.volume}", {"iops": 500})
    before = objects(stack)
    result = through_a_crash(stack, command, f"revertSnapshot/{step}:done")
    assert_one_object(before, objects(stack), result)
    [found] = stack.storpool.call("GET", f"Volume/{command.volume}")
    assert (found["iops"], set(found["tags"])) == (500, {"sp-op-revert"})
    reverts = stack.storpool.sim.requests("VolumeRevert")
    assert len([one for one in reverts if one["arg"] == command.volume]) == (2 if step == "revert" else 1)


GROUPS = [
    pytest.param(
        lambda stack: TakeVmSnapshot(volumes=[stack.create(), stack.create()]), "snapshot", id="takeVMSnapshot"
    ),
    pytest.param(lambda stack: RevertVmSnapshot(disks=[a_pair(stack), a_pair(stack)]), "safety", id="revertVMSnapshot"),
]


@pytest.mark.parametrize(("make", "step"), GROUPS)
def test_groups_survive_a_lost_answer(stack: Stack, make: Make, step: str) -> None:
    command = make(stack)
    before = objects(stack)
    result = through_a_lost_answer(
        stack, command, "VolumesGroupSnapshot", lambda: len(objects(stack).keys() - before.keys()) == 2
    )
    assert objects(stack).keys() - before.keys() == group_of(result)


@pytest.mark.parametrize(("make", "step"), GROUPS)
def test_groups_survive_a_crash_after_the_answer(stack: Stack, make: Make, step: str) -> None:
    command = make(stack)
    before = objects(stack)
    result = through_a_crash(stack, command, f"{command.command}/{step}:done")
    assert objects(stack).keys() - before.keys() == group_of(result)


def group_of(result: Any) -> set[str]:
    """The two snapshots that the reply names."""
    if isinstance(result, TakenVmSnapshot):
        return {one.snapshot for one in result.snapshots}
    return {one.safety_snapshot for one in result.disks}


def assert_one_object(before: dict[str, str], after: dict[str, str], result: Any) -> None:
    """One was made, it carries its tag, and it is the one that the reply names."""
    names = ("kept_snapshot", "safety_snapshot", "global_id")
    named = next(value for value in (getattr(result, name, None) for name in names) if value)
    made = after.keys() - before.keys()
    assert made == {named}
    assert after[named]
