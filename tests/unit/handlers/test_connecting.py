# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Connecting and disconnecting: what is undone, what is refused, what is left alone."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from fake_host import FakeHost
from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolTimeout, StorPoolUnavailable
from storpool_agent.storpool.model import Attachment
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk, GetPhysicalDisk, Holder
from storpool_commands.envelope import Success
from storpool_commands.errors import ErrorCode

MIB = 1 << 20


def test_a_device_that_does_not_appear_is_a_timeout_and_its_attachment_is_undone(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.devices.asleep = True
    failure = host.fail(ConnectPhysicalDisk(volume=str(volume.reference)))
    assert (failure.code, failure.side_effects) == (ErrorCode.DEVICE_TIMEOUT, "none")
    assert [step.status for step in failure.steps if step.step == "attach"] == ["undone"]
    assert host.storpool.attached == {}


def test_an_attachment_that_was_there_before_is_not_undone(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=1)
    host.devices.asleep = True
    assert host.fail(ConnectPhysicalDisk(volume=str(volume.reference))).code is ErrorCode.DEVICE_TIMEOUT
    assert (volume.global_id, 1) in host.storpool.attached


def test_a_volume_that_another_host_writes_is_refused(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=2)
    failure = host.fail(ConnectPhysicalDisk(volume=str(volume.reference)))
    assert (failure.code, failure.facts["clients"]) == (ErrorCode.ATTACHED_ELSEWHERE, ["2"])
    assert "attach" not in host.storpool.calls


@pytest.mark.parametrize(
    "allowed", [{"purpose": "migration"}, {"mode": "ro"}], ids=["for a migration", "only to be read"]
)
def test_a_volume_that_another_host_writes_may_be_connected(host: FakeHost, allowed: dict[str, str]) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=2)
    command = ConnectPhysicalDisk.model_validate({"volume": str(volume.reference), **allowed})
    assert host.succeed(command).attached_now


def test_two_hosts_that_attach_at_the_same_moment_both_give_way(host: FakeHost) -> None:
    """Neither sees the other before; each sees it after, and takes its own back."""
    volume = host.storpool.add()
    looks: list[Sequence[Attachment]] = []
    look = host.storpool.attachments

    def attachments(deadline: Deadline) -> Sequence[Attachment]:
        if looks:
            host.storpool.attach_elsewhere(volume, client=2)
        looks.append(look(deadline))
        return looks[-1]

    host.storpool.attachments = attachments  # type: ignore[method-assign]
    failure = host.fail(ConnectPhysicalDisk(volume=str(volume.reference)))
    assert (failure.code, failure.side_effects) == (ErrorCode.ATTACHED_ELSEWHERE, "none")
    assert set(host.storpool.attached) == {(volume.global_id, 2)}


def test_an_attach_whose_answer_was_lost_is_looked_up(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.lost_answers["attach"] = [StorPoolTimeout("no answer")]
    assert host.succeed(ConnectPhysicalDisk(volume=str(volume.reference))).attached_now


def test_an_undo_that_fails_is_a_side_effect(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.devices.asleep = True
    host.storpool.failures["detach"] = [StorPoolUnavailable("down")]
    failure = host.fail(ConnectPhysicalDisk(volume=str(volume.reference)))
    assert (failure.code, failure.side_effects) == (ErrorCode.DEVICE_TIMEOUT, "partial")


def test_a_second_run_knows_that_the_first_one_attached(host: FakeHost) -> None:
    volume, request_id = host.storpool.add(), uuid4()
    command = ConnectPhysicalDisk(volume=str(volume.reference))
    host.run(command, request_id=request_id)
    again = host.run(command, request_id=request_id, attempt=2)
    assert isinstance(again, Success)
    assert again.result.attached_now  # type: ignore[union-attr]


def test_a_volume_attached_the_other_way_is_a_conflict(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=1, mode="ro")
    assert host.fail(ConnectPhysicalDisk(volume=str(volume.reference))).code is ErrorCode.DISK_CONFLICT


def test_a_snapshot_is_connected_for_reading(host: FakeHost) -> None:
    snapshot = host.storpool.add(snapshot=True)
    assert host.succeed(ConnectPhysicalDisk(snapshot=str(snapshot.reference))).mode == "ro"


def test_a_volume_that_is_not_there_need_not_be_disconnected(host: FakeHost) -> None:
    gone = host.succeed(DisconnectPhysicalDisk(volume="~d.n.zz"))
    assert (gone.global_id, gone.detached_now) == (None, False)


def test_a_device_that_somebody_has_open_stays(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.succeed(ConnectPhysicalDisk(volume=str(volume.reference)))
    host.storpool.openers[volume.global_id] = [Holder(kind="process", name="dd", pid=7)]
    failure = host.fail(DisconnectPhysicalDisk(volume=str(volume.reference)))
    assert (failure.code, failure.facts["holders"]) == (ErrorCode.VOLUME_BUSY, ["process dd (pid 7)"])
    assert "detach" not in host.storpool.calls


def test_force_detaches_what_is_open(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.succeed(ConnectPhysicalDisk(volume=str(volume.reference)))
    host.storpool.openers[volume.global_id] = [Holder(kind="process", name="dd", pid=7)]
    assert host.succeed(
        DisconnectPhysicalDisk(volume=str(volume.reference), force=True, reason="it hangs")
    ).detached_now


def test_a_look_attaches_nothing(host: FakeHost) -> None:
    volume = host.storpool.add()
    assert host.succeed(GetPhysicalDisk(volume=str(volume.reference))).attached_here is None
    assert host.storpool.attached == {}
