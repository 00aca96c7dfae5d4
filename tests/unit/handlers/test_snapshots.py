# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots: taken once, deleted when nobody has them."""

from uuid import uuid4

import pytest

from fake_host import FakeHost
from storpool_agent.errors import StorPoolTimeout
from storpool_commands.envelope import Success
from storpool_commands.errors import ErrorCode
from storpool_commands.snapshots import DeleteSnapshot, DeleteTemplate, TakeSnapshot

BOTH = pytest.mark.parametrize("command", [DeleteSnapshot, DeleteTemplate])


def test_a_snapshot_has_its_tags_and_its_end(host: FakeHost) -> None:
    volume = host.storpool.add()
    command = TakeSnapshot(volume=str(volume.reference), uuid="s-1", vm_uuid="vm-1", delete_after_s=60)
    taken = host.succeed(command)
    assert {"cs": "snapshot", "uuid": "s-1", "cvm": "vm-1"}.items() <= taken.tags.items()
    assert (taken.volume, taken.size_bytes) == (volume.global_id, volume.size_bytes)
    assert host.storpool.delete_after_s == {taken.global_id: 60}


def test_a_second_run_finds_the_snapshot_of_the_first(host: FakeHost) -> None:
    volume, request_id = host.storpool.add(), uuid4()
    command = TakeSnapshot(volume=str(volume.reference))
    host.storpool.lost_answers["take_snapshot"] = [StorPoolTimeout("no answer")]
    host.run(command, request_id=request_id)
    again = host.run(command, request_id=request_id, attempt=2)
    assert isinstance(again, Success)
    assert set(host.storpool.volumes) == {volume.global_id, again.result.global_id}  # type: ignore[union-attr]


@BOTH
def test_what_is_there_is_deleted_and_what_is_not_is_no_failure(host: FakeHost, command: type[DeleteSnapshot]) -> None:
    snapshot = host.storpool.add(snapshot=True)
    first = host.succeed(command(snapshot=str(snapshot.reference)))
    again = host.succeed(command(snapshot=str(snapshot.reference)))
    assert (first.global_id, first.deleted_now) == (snapshot.global_id, True)
    assert (again.global_id, again.deleted_now) == (None, False)


@BOTH
def test_a_volume_is_no_snapshot(host: FakeHost, command: type[DeleteSnapshot]) -> None:
    volume = host.storpool.add()
    host.succeed(command(snapshot=str(volume.reference)))
    assert list(host.storpool.volumes) == [volume.global_id]


@BOTH
def test_what_somebody_reads_is_not_deleted(host: FakeHost, command: type[DeleteSnapshot]) -> None:
    snapshot = host.storpool.add(snapshot=True)
    host.storpool.attach_elsewhere(snapshot, client=2, mode="ro")
    failure = host.fail(command(snapshot=str(snapshot.reference)))
    assert (failure.code, failure.facts["clients"]) == (ErrorCode.VOLUME_BUSY, ["2"])
    assert "delete_volume" not in host.storpool.calls


def test_what_somebody_reads_is_deleted_by_force(host: FakeHost) -> None:
    snapshot = host.storpool.add(snapshot=True)
    host.storpool.attach_elsewhere(snapshot, client=2, mode="ro")
    command = DeleteSnapshot(snapshot=str(snapshot.reference), detach_force=True, reason="a copy that hangs")
    assert host.succeed(command).deleted_now
    assert (host.storpool.volumes, host.storpool.attached) == ({}, {})


@BOTH
def test_what_another_location_has_is_not_deleted(host: FakeHost, command: type[DeleteSnapshot]) -> None:
    snapshot = host.storpool.add(snapshot=True)
    host.storpool.exported.add(snapshot.global_id)
    failure = host.fail(command(snapshot=str(snapshot.reference)))
    assert (failure.code, failure.retry, failure.side_effects) == (ErrorCode.STILL_EXPORTED, "retryable", "none")


@BOTH
def test_a_second_run_knows_that_the_first_one_deleted_it(host: FakeHost, command: type[DeleteSnapshot]) -> None:
    snapshot, request_id = host.storpool.add(snapshot=True), uuid4()
    host.storpool.lost_answers["delete_volume"] = [StorPoolTimeout("no answer")]
    host.run(command(snapshot=str(snapshot.reference)), request_id=request_id)
    again = host.run(command(snapshot=str(snapshot.reference)), request_id=request_id, attempt=2)
    assert isinstance(again, Success)
    assert again.result.deleted_now  # type: ignore[union-attr]
