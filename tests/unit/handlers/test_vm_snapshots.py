# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Group snapshots: what is frozen and for how long, what is left behind, what a failure says."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from fake_host import FakeHost
from fakes_domains import FakeMachine
from storpool_agent.errors import (
    GuestAgentUnavailable,
    InsufficientResources,
    LibvirtTimeout,
    StorPoolTimeout,
    StorPoolUnavailable,
    VolumeBusy,
)
from storpool_agent.storpool.model import Volume
from storpool_commands.disks import AttachDisk
from storpool_commands.envelope import Failure, Success
from storpool_commands.errors import ErrorCode
from storpool_commands.vm_snapshots import DeleteVmSnapshot, Quiesce, TakeVmSnapshot


class Died(BaseException):
    """The agent was killed here."""


def guest_with_disks(host: FakeHost, **settings: Any) -> tuple[FakeMachine, list[Volume]]:
    machine = host.machine(**{"guest_agent": True, **settings})
    volumes = [host.storpool.add() for _ in range(2)]
    for volume in volumes:
        host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    return machine, volumes


def take(volumes: Sequence[Volume], quiesce: Quiesce = "no", machine: FakeMachine | None = None) -> TakeVmSnapshot:
    vm = None if machine is None else machine.uuid
    return TakeVmSnapshot(volumes=[str(each.reference) for each in volumes], quiesce=quiesce, vm=vm)


def snapshots(host: FakeHost) -> list[Volume]:
    return [each for each in host.storpool.volumes.values() if each.snapshot]


def watch(host: FakeHost, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the guest was frozen, and known to be, at each snapshot."""
    seen: list[bool] = []
    genuine = host.storpool.take_group_snapshot

    def spy(*arguments: Any, **named: Any) -> Sequence[Volume]:
        seen.append(machine.frozen and host.journal.thaws.of(machine.uuid) is not None)
        return genuine(*arguments, **named)

    monkeypatch.setattr(host.storpool, "take_group_snapshot", spy)
    return seen


def die(host: FakeHost, command: TakeVmSnapshot, method: str, *, after: bool) -> Any:
    """Run it until the agent dies at a call of StorPool; returns how to run it again."""
    request_id = uuid4()
    where = host.storpool.lost_answers if after else host.storpool.failures
    where[method] = [Died()]  # type: ignore[list-item]
    with pytest.raises(Died):
        host.run(command, request_id=request_id)
    return lambda attempt=2: host.run(command, request_id=request_id, attempt=attempt)


def test_a_group_is_taken_with_its_tags_in_the_order_of_the_volumes(host: FakeHost) -> None:
    volumes = [host.storpool.add() for _ in range(3)]
    references = [str(each.reference) for each in volumes]
    taken = host.succeed(TakeVmSnapshot(volumes=references, uuid="snap-1", vm_uuid="vm-1", tags={"a": "b"}))
    assert [one.volume for one in taken.snapshots] == [each.global_id for each in volumes]
    assert (taken.consistency, taken.frozen_ms, taken.not_frozen) == ("crash", None, None)
    for one in snapshots(host):
        assert {"cs": "group", "uuid": "snap-1", "cvm": "vm-1", "a": "b"}.items() <= one.tags.items()


def test_a_volume_that_is_not_there_keeps_all_from_being_taken(host: FakeHost) -> None:
    failure = host.fail(TakeVmSnapshot(volumes=[str(host.storpool.add().reference), "nope"]))
    assert (failure.code, failure.side_effects, snapshots(host)) == (ErrorCode.VOLUME_NOT_FOUND, "none", [])


def test_two_names_of_one_volume_are_refused(host: FakeHost) -> None:
    volume = host.storpool.add(name="vol")
    failure = host.fail(TakeVmSnapshot(volumes=["vol", str(volume.reference)]))
    assert failure.code is ErrorCode.INVALID_COMMAND


def test_the_guest_is_frozen_while_the_group_is_taken_and_not_after(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, volumes = guest_with_disks(host)
    seen = watch(host, machine, monkeypatch)
    taken = host.succeed(take(volumes, "require", machine))
    assert (taken.consistency, taken.not_frozen, seen) == ("file-system", None, [True])
    assert taken.frozen_ms > 0
    assert (machine.frozen, host.journal.thaws.pending()) == (False, [])


@pytest.mark.parametrize("quiesce", ["require", "try"])
def test_a_machine_that_does_not_have_the_volume_is_refused(host: FakeHost, quiesce: Quiesce) -> None:
    machine, volumes = guest_with_disks(host)
    failure = host.fail(take([*volumes, host.storpool.add()], quiesce, machine))
    assert (failure.code, snapshots(host)) == (ErrorCode.DISK_NOT_FOUND, [])


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"guest_agent": False}, ErrorCode.GUEST_AGENT_UNAVAILABLE),
        ({"freezable": False}, ErrorCode.GUEST_NOT_FROZEN),
        ({"running": False}, ErrorCode.VM_NOT_RUNNING),
    ],
    ids=["no agent", "the agent says no", "off"],
)
def test_a_guest_that_cannot_be_frozen(host: FakeHost, settings: dict[str, bool], code: ErrorCode) -> None:
    machine, volumes = guest_with_disks(host, **settings)
    failure = host.fail(take(volumes, "require", machine))
    assert (failure.code, failure.side_effects, snapshots(host)) == (code, "none", [])
    taken = host.succeed(take(volumes, "try", machine))
    assert (taken.consistency, taken.frozen_ms, len(snapshots(host))) == ("crash", None, 2)
    assert machine.name in taken.not_frozen
    assert host.journal.thaws.pending() == []


def test_a_guest_that_may_have_been_frozen_after_all_is_thawed(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    host.domains.lose_answer("freeze", LibvirtTimeout("silent"))
    failure = host.fail(take(volumes, "require", machine))
    assert (failure.code, failure.side_effects) == (ErrorCode.GUEST_NOT_FROZEN, "none")
    assert (machine.frozen, host.journal.thaws.pending(), snapshots(host)) == (False, [], [])


def test_a_guest_that_cannot_be_thawed_stays_in_the_journal_and_no_snapshot_is_left(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    host.domains.fail("thaw", GuestAgentUnavailable("gone"))
    failure = host.fail(take(volumes, "try", machine))
    assert (failure.code, failure.side_effects) == (ErrorCode.GUEST_AGENT_UNAVAILABLE, "partial")
    assert [one.vm for one in host.journal.thaws.pending()] == [machine.uuid]
    assert snapshots(host) == []


def test_what_storpool_refuses_is_said_once_the_guest_is_thawed(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    for quiesce in ("require", "try"):
        host.storpool.failures["take_group_snapshot"] = [InsufficientResources("full")]
        failure = host.fail(take(volumes, quiesce, machine))
        assert (failure.code, failure.side_effects) == (ErrorCode.INSUFFICIENT_RESOURCES, "none")
        assert (machine.frozen, host.journal.thaws.pending()) == (False, [])


def test_an_answer_that_comes_too_late_is_not_called_consistent(host: FakeHost) -> None:
    """The snapshots were taken: with `require` they are deleted, with `try` they are what they are."""
    machine, volumes = guest_with_disks(host)
    host.storpool.lost_answers["take_group_snapshot"] = [StorPoolTimeout("late"), StorPoolTimeout("late")]
    failure = host.fail(take(volumes, "require", machine))
    assert (failure.code, failure.side_effects, snapshots(host)) == (ErrorCode.FROZEN_TOO_LONG, "none", [])
    taken = host.succeed(take(volumes, "try", machine))
    assert (taken.consistency, len(snapshots(host)), machine.frozen) == ("crash", 2, False)
    assert taken.frozen_ms > 0
    assert "late" in taken.not_frozen


def test_snapshots_that_may_come_later_are_an_effect_of_the_failure(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    host.storpool.failures["take_group_snapshot"] = [StorPoolTimeout("silent")]
    failure = host.fail(take(volumes, "require", machine))
    assert (failure.code, failure.side_effects) == (ErrorCode.FROZEN_TOO_LONG, "partial")
    assert failure.facts["operation"] == str(failure.id)


def test_with_require_a_storpool_that_is_away_has_taken_nothing(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    host.storpool.failures["take_group_snapshot"] = [StorPoolUnavailable("away")]
    failure = host.fail(take(volumes, "require", machine))
    assert (failure.code, failure.side_effects) == (ErrorCode.FROZEN_TOO_LONG, "none")


def test_a_storpool_that_is_away_while_the_guest_is_frozen_is_tried_again_unfrozen(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    host.storpool.failures["take_group_snapshot"] = [StorPoolUnavailable("away")]
    taken = host.succeed(take(volumes, "try", machine))
    assert (taken.consistency, len(snapshots(host)), machine.frozen) == ("crash", 2, False)


def test_a_guest_that_somebody_else_thawed_is_not_called_consistent(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, volumes = guest_with_disks(host)
    genuine = host.storpool.take_group_snapshot

    def meddle(*arguments: Any, **named: Any) -> Sequence[Volume]:
        machine.frozen = False
        return genuine(*arguments, **named)

    monkeypatch.setattr(host.storpool, "take_group_snapshot", meddle)
    failure = host.fail(take(volumes, "require", machine))
    assert (failure.code, failure.side_effects, snapshots(host)) == (ErrorCode.FROZEN_TOO_LONG, "none", [])
    taken = host.succeed(take(volumes, "try", machine))
    assert (taken.consistency, len(snapshots(host))) == ("crash", 2)


def test_snapshots_that_cannot_be_deleted_are_an_effect_of_the_failure(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    host.storpool.lost_answers["take_group_snapshot"] = [StorPoolTimeout("late")]
    host.storpool.failures["delete_volume"] = [VolumeBusy("attached")]
    failure = host.fail(take(volumes, "require", machine))
    assert (failure.code, failure.side_effects) == (ErrorCode.FROZEN_TOO_LONG, "partial")


@pytest.mark.parametrize("after", [False, True], ids=["before the group", "after the group"])
def test_an_agent_that_died_frozen_takes_the_group_again(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    machine, volumes = guest_with_disks(host)
    again = die(host, take(volumes, "require", machine), "take_group_snapshot", after=after)
    assert (machine.frozen, [one.vm for one in host.journal.thaws.pending()]) == (True, [machine.uuid])
    seen = watch(host, machine, monkeypatch)
    reply = again()
    assert isinstance(reply, Success)
    assert (reply.result.consistency, seen) == ("file-system", [True])  # type: ignore[union-attr]
    assert {one.global_id for one in snapshots(host)} == {
        one.snapshot
        for one in reply.result.snapshots  # type: ignore[union-attr]
    }
    assert (machine.frozen, host.journal.thaws.pending()) == (False, [])


def test_an_agent_that_died_twice_leaves_one_group(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    again = die(host, take(volumes, "require", machine), "take_group_snapshot", after=True)
    host.storpool.lost_answers["take_group_snapshot"] = [Died()]  # type: ignore[list-item]
    with pytest.raises(Died):
        again(2)
    reply = again(3)
    assert isinstance(reply, Success)
    assert len(snapshots(host)) == 2


def test_with_try_a_group_of_a_dead_agent_is_good_enough_and_its_doubt_is_told(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    again = die(host, take(volumes, "try", machine), "take_group_snapshot", after=True)
    made = {one.global_id for one in snapshots(host)}
    reply = again()
    assert isinstance(reply, Success)
    assert (reply.result.consistency, machine.frozen) == ("crash", False)  # type: ignore[union-attr]
    assert {one.global_id for one in snapshots(host)} == made
    assert "died" in (reply.result.not_frozen or "")  # type: ignore[union-attr]


def test_without_a_guest_a_group_of_a_dead_agent_is_found(host: FakeHost) -> None:
    volumes = [host.storpool.add() for _ in range(2)]
    again = die(host, take(volumes), "take_group_snapshot", after=True)
    assert isinstance(again(), Success)
    assert len(snapshots(host)) == 2


def test_a_guest_that_a_dead_agent_froze_is_not_frozen_again_before_it_is_thawed(host: FakeHost) -> None:
    machine, volumes = guest_with_disks(host)
    again = die(host, take(volumes, "require", machine), "take_group_snapshot", after=False)
    host.domains.fail("thaw", GuestAgentUnavailable("gone"))
    reply = again()
    assert isinstance(reply, Failure)
    assert (reply.code, snapshots(host)) == (ErrorCode.GUEST_AGENT_UNAVAILABLE, [])
    assert [one.vm for one in host.journal.thaws.pending()] == [machine.uuid]


def deletion(host: FakeHost, *names: str) -> DeleteVmSnapshot:
    there = [str(host.storpool.add(snapshot=True).reference) for _ in range(2)]
    return DeleteVmSnapshot(snapshots=[*there, *names])


def test_all_snapshots_are_deleted_and_missing_ones_are_no_failure(host: FakeHost) -> None:
    command = deletion(host, "nope")
    gone = host.succeed(command)
    assert (gone.deleted, gone.missing, snapshots(host)) == (command.snapshots[:2], ["nope"], [])
    again = host.succeed(command)
    assert (again.deleted, again.missing) == ([], command.snapshots)


def test_one_that_cannot_be_deleted_does_not_keep_the_others(host: FakeHost) -> None:
    command = deletion(host, "nope")
    host.storpool.failures["delete_volume"] = [VolumeBusy("attached to client 2")]
    failure = host.fail(command)
    assert (failure.code, failure.side_effects) == (ErrorCode.DELETE_INCOMPLETE, "partial")
    assert failure.facts == {
        "left": command.snapshots[:1],
        "codes": ["volume-busy"],
        "deleted": command.snapshots[1:2],
        "missing": ["nope"],
    }
    assert "attached to client 2" in failure.message
    assert host.succeed(command).deleted == command.snapshots[:1]


def test_what_a_dead_agent_deleted_was_deleted_by_this_request(host: FakeHost) -> None:
    command = deletion(host)
    request_id = uuid4()
    host.storpool.lost_answers["delete_volume"] = [Died()]  # type: ignore[list-item]
    with pytest.raises(Died):
        host.run(command, request_id=request_id)
    reply = host.run(command, request_id=request_id, attempt=2)
    assert isinstance(reply, Success)
    assert sorted(reply.result.deleted) == sorted(command.snapshots)  # type: ignore[union-attr]
