# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Reverting: never under somebody's feet, never twice for a request, and with the limits it had."""

from typing import Any
from uuid import uuid4

import pytest

from fake_host import FakeHost
from storpool_agent.errors import LibvirtUnavailable, StorPoolRefused, StorPoolTimeout, StorPoolUnavailable
from storpool_agent.storpool.model import Volume, VolumeChange
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, Holder
from storpool_commands.envelope import Failure, Success
from storpool_commands.errors import ErrorCode
from storpool_commands.snapshots import RevertSnapshot, TakeSnapshot
from storpool_commands.volumes import UpdateVolume

MIB = 1 << 20


@pytest.fixture
def volume(host: FakeHost) -> Volume:
    """It had `first` on it when its snapshot was taken, and has `second` now."""
    volume = host.storpool.add()
    host.storpool.contents[volume.global_id] = "first"
    host.succeed(TakeSnapshot(volume=str(volume.reference)))
    host.storpool.contents[volume.global_id] = "second"
    return volume


def snapshot_of(host: FakeHost, kind: str = "snapshot") -> Volume:
    [snapshot] = [each for each in host.storpool.volumes.values() if each.tags.get("cs") == kind]
    return snapshot


def revert(host: FakeHost, volume: Volume, **options: Any) -> RevertSnapshot:
    return RevertSnapshot(volume=str(volume.reference), snapshot=str(snapshot_of(host).reference), **options)


def content(host: FakeHost, volume: Volume) -> str:
    return host.storpool.contents[volume.global_id]


def now(host: FakeHost, volume: Volume) -> Volume:
    return host.storpool.volumes[volume.global_id]


def test_a_volume_gets_the_data_of_its_snapshot(host: FakeHost, volume: Volume) -> None:
    reverted = host.succeed(revert(host, volume))
    assert (reverted.global_id, reverted.snapshot) == (volume.global_id, snapshot_of(host).global_id)
    assert (content(host, volume), reverted.safety_snapshot) == ("first", None)


def test_what_was_there_is_kept_for_safety(host: FakeHost, volume: Volume) -> None:
    reverted = host.succeed(revert(host, volume, safety_snapshot=True))
    safety = snapshot_of(host, "safety")
    assert (reverted.safety_snapshot, host.storpool.contents[safety.global_id]) == (safety.global_id, "second")


def test_the_tags_survive(host: FakeHost, volume: Volume) -> None:
    host.storpool.update_volume(volume, VolumeChange(tags={"vc-policy": "daily"}), None)  # type: ignore[arg-type]
    host.succeed(revert(host, volume))
    assert now(host, volume).tags["vc-policy"] == "daily"
    assert "sp-op-reverting" not in now(host, volume).tags


@pytest.mark.parametrize("detach", [False, True], ids=["as it is", "told to detach"])
def test_a_running_machine_keeps_its_data(host: FakeHost, volume: Volume, detach: bool) -> None:
    machine = host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    failure = host.fail(revert(host, volume, detach=detach))
    assert (failure.code, failure.facts["vms"]) == (ErrorCode.DISK_IN_USE_BY_VM, [machine.uuid])
    assert (content(host, volume), failure.side_effects) == ("second", "none")


def test_nothing_is_reverted_while_libvirt_cannot_say_who_runs(host: FakeHost, volume: Volume) -> None:
    host.domains.fail("having", LibvirtUnavailable("down"))
    assert host.fail(revert(host, volume)).code is ErrorCode.LIBVIRT_UNAVAILABLE
    assert content(host, volume) == "second"


def test_what_another_host_has_is_not_reverted(host: FakeHost, volume: Volume) -> None:
    host.storpool.attach_elsewhere(volume, client=2)
    failure = host.fail(revert(host, volume, safety_snapshot=True))
    assert (failure.code, failure.facts["clients"], failure.side_effects) == (ErrorCode.VOLUME_BUSY, ["2"], "none")
    assert "take_snapshot" not in host.storpool.calls[-3:]


def test_what_is_attached_and_not_open_is_detached_first_if_told(host: FakeHost, volume: Volume) -> None:
    host.storpool.attach_elsewhere(volume, client=2)
    host.succeed(revert(host, volume, detach=True))
    assert (content(host, volume), host.storpool.attached) == ("first", {})


def test_what_is_open_is_never_pulled_away(host: FakeHost, volume: Volume) -> None:
    host.succeed(ConnectPhysicalDisk(volume=str(volume.reference)))
    host.storpool.openers[volume.global_id] = [Holder(kind="process", name="dd", pid=7)]
    assert host.fail(revert(host, volume, detach=True)).code is ErrorCode.VOLUME_BUSY
    assert content(host, volume) == "second"


def test_a_snapshot_that_does_not_fit_is_refused(host: FakeHost, volume: Volume) -> None:
    shrunk = VolumeChange(size_bytes=volume.size_bytes // 2, shrink_ok=True)
    host.storpool.update_volume(volume, shrunk, None)  # type: ignore[arg-type]
    assert host.fail(revert(host, volume)).code is ErrorCode.WOULD_SHRINK
    assert host.succeed(revert(host, volume, revert_size=True)).size_bytes == volume.size_bytes


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(None, 500, id="as it had"),
        pytest.param(900, 900, id="as asked for"),
        pytest.param(0, None, id="none, as asked for"),
    ],
)
def test_limits_are_set_again(host: FakeHost, volume: Volume, asked: int | None, expected: int | None) -> None:
    host.succeed(UpdateVolume(volume=str(volume.reference), iops=500, bandwidth_kib_sec=700))
    host.storpool.revert_loses_limits = True
    assert host.succeed(revert(host, volume, iops=asked)).iops == expected
    assert (now(host, volume).iops, now(host, volume).bandwidth_kib_sec) == (expected, 700)


def test_limits_that_cannot_be_set_are_a_failure_that_says_so(host: FakeHost, volume: Volume) -> None:
    host.succeed(UpdateVolume(volume=str(volume.reference), iops=500))
    host.storpool.revert_loses_limits = True
    failure = fail_update(host, volume, number=3)
    assert (failure.code, failure.side_effects) == (ErrorCode.REVERT_INCOMPLETE, "partial")
    assert (failure.facts["missing"], failure.facts["iops"]) == (["limits"], 500)
    assert failure.facts["safety_snapshot"] == snapshot_of(host, "safety").global_id
    assert content(host, volume) == "first"


def test_a_new_request_after_that_still_knows_the_limits(host: FakeHost, volume: Volume) -> None:
    host.succeed(UpdateVolume(volume=str(volume.reference), iops=500))
    host.storpool.revert_loses_limits = True
    fail_update(host, volume, number=3)
    assert now(host, volume).iops is None
    assert host.succeed(revert(host, volume)).iops == 500


def fail_update(host: FakeHost, volume: Volume, *, number: int) -> Failure:
    """Revert with StorPool refusing the n-th update of it: 1 marks it as begun, 2 as done, 3 sets the limits."""
    update, updates = host.storpool.update_volume, iter(range(1, 10))

    def refuse(*arguments: Any) -> None:
        if next(updates) == number:
            raise StorPoolRefused("no")
        update(*arguments)

    host.storpool.update_volume = refuse  # type: ignore[method-assign]
    try:
        return host.fail(revert(host, volume, safety_snapshot=True))
    finally:
        host.storpool.update_volume = update  # type: ignore[method-assign]


def test_a_request_that_was_answered_does_not_revert_again(host: FakeHost, volume: Volume) -> None:
    """Its reply went out, its acknowledgement was lost, and another agent runs it: meanwhile a guest has written."""
    request_id = uuid4()
    host.run(revert(host, volume, iops=7, safety_snapshot=True), request_id=request_id)
    host.storpool.contents[volume.global_id] = "third"
    host.succeed(UpdateVolume(volume=str(volume.reference), iops=8))
    host.storpool.attach_elsewhere(volume, client=2)
    again = host.run(revert(host, volume, iops=7, safety_snapshot=True), request_id=request_id, attempt=2)
    assert isinstance(again, Success)
    assert (content(host, volume), now(host, volume).iops) == ("third", 8)
    assert again.result.safety_snapshot == snapshot_of(host, "safety").global_id  # type: ignore[union-attr]
    assert [step.status for step in again.steps if step.step == "revert"] == ["already"]


def test_not_even_after_four_others_have_reverted_it(host: FakeHost, volume: Volume) -> None:
    request_id = uuid4()
    host.run(revert(host, volume), request_id=request_id)
    for _ in range(4):
        host.succeed(revert(host, volume))
    host.storpool.contents[volume.global_id] = "third"
    host.run(revert(host, volume), request_id=request_id, attempt=2)
    assert content(host, volume) == "third"
    assert len(now(host, volume).tags["sp-op-revert"]) < 200


def test_a_run_that_was_cut_off_is_finished_with_the_limits_from_before(host: FakeHost, volume: Volume) -> None:
    request_id = uuid4()
    host.succeed(UpdateVolume(volume=str(volume.reference), iops=500))
    host.storpool.revert_loses_limits = True
    host.storpool.lost_answers["revert_volume"] = [StorPoolTimeout("no answer")]
    first = host.run(revert(host, volume, safety_snapshot=True), request_id=request_id)
    assert isinstance(first, Failure)
    assert (first.retry, first.side_effects) == ("uncertain", "partial")
    again = host.run(revert(host, volume, safety_snapshot=True), request_id=request_id, attempt=2)
    assert isinstance(again, Success)
    assert (again.result.iops, content(host, volume)) == (500, "first")  # type: ignore[union-attr]
    assert host.storpool.contents[snapshot_of(host, "safety").global_id] == "second"


def test_a_run_that_was_cut_off_does_not_revert_what_somebody_has_now(host: FakeHost, volume: Volume) -> None:
    request_id = uuid4()
    host.storpool.lost_answers["revert_volume"] = [StorPoolTimeout("no answer")]
    host.run(revert(host, volume), request_id=request_id)
    host.storpool.contents[volume.global_id] = "third"
    host.storpool.attach_elsewhere(volume, client=2)
    again = host.run(revert(host, volume, detach=True), request_id=request_id, attempt=2)
    assert isinstance(again, Failure)
    assert (again.code, again.side_effects) == (ErrorCode.REVERT_INCOMPLETE, "partial")
    assert content(host, volume) == "third"


def test_a_revert_that_did_not_happen_leaves_no_mark(host: FakeHost, volume: Volume) -> None:
    host.storpool.failures["revert_volume"] = [StorPoolUnavailable("down")]
    failure = host.fail(revert(host, volume))
    assert (failure.code, failure.side_effects) == (ErrorCode.STORPOOL_UNAVAILABLE, "none")
    assert now(host, volume).tags == {}


def test_a_second_run_does_not_revert_another_volume_that_has_got_the_name(host: FakeHost, volume: Volume) -> None:
    named, request_id = host.storpool.add(name="disk"), uuid4()
    command = RevertSnapshot(volume="disk", snapshot=str(snapshot_of(host).reference))
    host.storpool.lost_answers["revert_volume"] = [StorPoolTimeout("no answer")]
    host.run(command, request_id=request_id)
    del host.storpool.volumes[named.global_id]
    newer = host.storpool.add(name="disk")
    again = host.run(command, request_id=request_id, attempt=2)
    assert isinstance(again, Failure)
    assert again.code is ErrorCode.VOLUME_NOT_FOUND
    assert newer.global_id not in host.storpool.contents
