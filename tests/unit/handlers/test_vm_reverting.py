# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""All disks of a machine go back, or it is said which have not."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from fake_host import FakeHost
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, StorPoolRefused, StorPoolTimeout
from storpool_agent.storpool.model import Volume, VolumeChange
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, Holder
from storpool_commands.envelope import Success
from storpool_commands.errors import ErrorCode
from storpool_commands.vm_snapshots import RevertVmSnapshot, TakeVmSnapshot, VolumeAndSnapshot


class Died(BaseException):
    """The agent was killed here."""


@dataclass
class Written:
    """Two volumes that were written, snapshotted, and written again."""

    host: FakeHost
    volumes: list[Volume]
    disks: list[VolumeAndSnapshot]

    @property
    def contents(self) -> list[str | None]:
        return [self.host.storpool.contents.get(each.global_id) for each in self.volumes]

    @property
    def limits(self) -> list[tuple[int | None, int | None]]:
        now = [self.host.storpool.volumes[each.global_id] for each in self.volumes]
        return [(each.iops, each.bandwidth_kib_sec) for each in now]

    @property
    def safety(self) -> list[Volume]:
        return [each for each in self.host.storpool.volumes.values() if each.tags.get("cs") == "safety"]

    def revert(self, **fields: Any) -> RevertVmSnapshot:
        return RevertVmSnapshot(disks=self.disks, **fields)

    def write(self, text: str) -> None:
        for each in self.volumes:
            self.host.storpool.contents[each.global_id] = text


@pytest.fixture
def written(host: FakeHost) -> Written:
    volumes = [host.storpool.add() for _ in range(2)]
    for each, iops in zip(volumes, (1000, 2000), strict=True):
        host.storpool.update_volume(each, VolumeChange(iops=iops, bandwidth_kib_sec=iops * 2), Deadline.after(1))
    result = Written(host, volumes, [])
    result.write("first")
    taken = host.succeed(TakeVmSnapshot(volumes=[str(each.reference) for each in volumes]))
    result.disks = [VolumeAndSnapshot(volume=f"~{one.volume}", snapshot=f"~{one.snapshot}") for one in taken.snapshots]
    result.write("other")
    return result


def test_all_volumes_get_their_data_back_and_keep_their_limits(written: Written) -> None:
    written.host.storpool.revert_loses_limits = True
    reverted = written.host.succeed(written.revert())
    assert written.contents == ["first", "first"]
    assert written.limits == [(1000, 2000), (2000, 4000)]
    assert [(one.volume, one.iops) for one in reverted.disks] == [
        (written.volumes[0].global_id, 1000),
        (written.volumes[1].global_id, 2000),
    ]
    assert [one.safety_snapshot for one in reverted.disks] == [one.global_id for one in written.safety]


def test_a_safety_snapshot_has_what_was_there_and_can_be_declined(written: Written) -> None:
    written.host.succeed(written.revert())
    assert [written.host.storpool.contents[one.global_id] for one in written.safety] == ["other", "other"]
    for one in written.safety:
        del written.host.storpool.volumes[one.global_id]
    reverted = written.host.succeed(written.revert(safety_snapshots=False))
    assert ([one.safety_snapshot for one in reverted.disks], written.safety) == ([None, None], [])


@pytest.mark.parametrize("missing", ["volume", "snapshot"])
def test_one_that_is_not_there_keeps_all_from_being_reverted(written: Written, missing: str) -> None:
    written.disks[1] = written.disks[1].model_copy(update={missing: "nope"})
    failure = written.host.fail(written.revert())
    assert failure.code.value == f"{missing}-not-found"
    assert (failure.side_effects, written.contents, written.safety) == ("none", ["other", "other"], [])


def test_a_volume_that_has_become_smaller_would_lose_its_end(written: Written) -> None:
    shrunk = VolumeChange(size_bytes=512, shrink_ok=True)
    written.host.storpool.update_volume(written.volumes[1], shrunk, Deadline.after(1))
    failure = written.host.fail(written.revert())
    assert (failure.code, written.contents) == (ErrorCode.WOULD_SHRINK, ["other", "other"])


def test_two_names_of_one_volume_are_refused(written: Written) -> None:
    named = written.host.storpool.add(name="vol")
    pairs = [
        VolumeAndSnapshot(volume=text, snapshot=written.disks[0].snapshot) for text in ("vol", f"~{named.global_id}")
    ]
    assert written.host.fail(RevertVmSnapshot(disks=pairs)).code is ErrorCode.INVALID_COMMAND


def test_a_machine_that_runs_with_one_of_them_is_refused(written: Written) -> None:
    machine = written.host.machine()
    written.host.succeed(AttachDisk(vm=machine.uuid, volume=str(written.volumes[1].reference)))
    failure = written.host.fail(written.revert(detach=True))
    assert (failure.code, failure.facts["vms"]) == (ErrorCode.DISK_IN_USE_BY_VM, [machine.uuid])
    assert (failure.side_effects, written.contents) == ("none", ["other", "other"])


def test_the_machine_that_is_named_must_not_run(written: Written) -> None:
    machine = written.host.machine()
    failure = written.host.fail(written.revert(vm=machine.uuid))
    assert (failure.code, failure.facts["vm"]) == (ErrorCode.DISK_IN_USE_BY_VM, machine.uuid)
    written.host.domains.stop(machine.uuid)
    written.host.succeed(written.revert(vm=machine.uuid))
    written.host.succeed(written.revert(vm="a-transient-one-that-is-off"))


def test_an_attached_volume_is_refused_unless_it_may_be_detached(written: Written) -> None:
    written.host.storpool.attach_elsewhere(written.volumes[1], 7)
    failure = written.host.fail(written.revert())
    assert (failure.code, failure.facts["clients"], written.safety) == (ErrorCode.VOLUME_BUSY, ["7"], [])
    written.host.succeed(written.revert(detach=True))
    assert (written.contents, written.host.storpool.attached) == (["first", "first"], {})


def test_an_open_volume_is_not_detached(written: Written) -> None:
    written.host.succeed(ConnectPhysicalDisk(volume=str(written.volumes[1].reference)))
    written.host.storpool.openers[written.volumes[1].global_id] = [Holder(kind="process", name="dd")]
    failure = written.host.fail(written.revert(detach=True))
    assert (failure.code, failure.side_effects) == (ErrorCode.VOLUME_BUSY, "none")
    assert (written.contents, written.safety) == (["other", "other"], [])


def fail_second_revert(written: Written, error: BaseException, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
    genuine, seen = written.host.storpool.revert_volume, []

    def revert(volume: Volume, snapshot: Volume, deadline: Deadline, *, revert_size: bool = False) -> None:
        seen.append(volume)
        if len(seen) == 2 and not after:
            raise error
        genuine(volume, snapshot, deadline, revert_size=revert_size)
        if len(seen) == 2:
            raise error

    monkeypatch.setattr(written.host.storpool, "revert_volume", revert)


@pytest.mark.parametrize("error", [StorPoolRefused("no"), StorPoolTimeout("silent")], ids=["refused", "not known"])
def test_a_failure_in_between_says_which_are_reverted(
    written: Written, error: AgentError, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_second_revert(written, error, monkeypatch, after=False)
    failure = written.host.fail(written.revert())
    first, second = (each.global_id for each in written.volumes)
    assert (failure.code, failure.side_effects) == (ErrorCode.REVERT_INCOMPLETE, "partial")
    assert (failure.facts["reverted"], failure.facts["left"]) == ([first], [second])
    assert failure.facts["safety_snapshots"] == [
        f"{volume.global_id}:{one.global_id}" for volume, one in zip(written.volumes, written.safety, strict=True)
    ]
    assert str(error) in failure.message
    assert written.contents == ["first", "other"]
    written.host.succeed(written.revert())
    assert written.contents == ["first", "first"]


def test_a_failure_before_the_first_leaves_nothing(written: Written) -> None:
    written.host.storpool.failures["revert_volume"] = [StorPoolRefused("no")]
    failure = written.host.fail(written.revert())
    assert (failure.code, failure.side_effects) == (ErrorCode.STORPOOL_REFUSED, "none")
    assert (written.contents, written.safety) == (["other", "other"], [])


def test_a_first_one_of_which_it_is_not_known_is_incomplete(written: Written) -> None:
    written.host.storpool.lost_answers["revert_volume"] = [StorPoolTimeout("silent")]
    failure = written.host.fail(written.revert())
    assert (failure.code, failure.facts["reverted"], len(written.safety)) == (ErrorCode.REVERT_INCOMPLETE, [], 2)


def test_limits_that_cannot_be_set_again_are_told(written: Written) -> None:
    written.host.storpool.revert_loses_limits = True
    written.host.storpool.failures["update_volume"] = [StorPoolRefused("no")]
    failure = written.host.fail(written.revert())
    assert failure.code is ErrorCode.REVERT_INCOMPLETE
    assert failure.facts["limits_left"] == [f"{written.volumes[0].global_id}:1000:2000"]


@pytest.mark.parametrize("after", [False, True], ids=["before the second", "after the second"])
def test_a_dead_agent_s_work_is_gone_on_with_and_not_repeated(
    written: Written, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    written.host.storpool.revert_loses_limits = True
    request_id, command = uuid4(), written.revert()
    fail_second_revert(written, Died(), monkeypatch, after=after)
    with pytest.raises(Died):
        written.host.run(command, request_id=request_id)
    written.host.storpool.contents[written.volumes[0].global_id] = "written since"
    reply = written.host.run(command, request_id=request_id, attempt=2)
    assert isinstance(reply, Success), reply
    assert written.contents == ["written since", "first"]
    assert written.limits == [(1000, 2000), (2000, 4000)]
    assert len(written.safety) == 2
    assert [one.safety_snapshot for one in reply.result.disks] == [  # type: ignore[union-attr]
        one.global_id for one in written.safety
    ]


def test_what_a_dead_agent_may_have_reverted_and_somebody_uses_since_is_left_alone(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id, command = uuid4(), written.revert(detach=True)
    fail_second_revert(written, Died(), monkeypatch, after=True)
    with pytest.raises(Died):
        written.host.run(command, request_id=request_id)
    written.host.storpool.attach_elsewhere(written.volumes[1], 7)
    reply = written.host.run(command, request_id=request_id, attempt=2)
    assert not isinstance(reply, Success)
    assert (reply.code, reply.side_effects) == (ErrorCode.REVERT_INCOMPLETE, "partial")
    assert len(written.host.storpool.attached) == 1
