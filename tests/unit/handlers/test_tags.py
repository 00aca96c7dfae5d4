# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tags on all disks of a machine, and those that attach sets and detach removes."""

from typing import Any

import pytest

from fake_host import FakeHost
from storpool_agent.errors import StorPoolTimeout, StorPoolUnavailable
from storpool_agent.storpool.model import Volume, VolumeChange
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DisconnectPhysicalDisk,
    DisconnectPhysicalDiskByPath,
)
from storpool_commands.errors import ErrorCode
from storpool_commands.tags import StorPoolCreateTags, StorPoolDeleteTags

VM_TAGS = {"cvm": "vm-1", "vc-policy": "daily", "qc": "gold", "disk": "1"}
LABELS: dict[str, Any] = {"vc_policy": "daily", "tier": "gold", "disk_id": 1}


def tagged(host: FakeHost, **tags: str) -> Volume:
    volume = host.storpool.add()
    host.storpool.update_volume(volume, VolumeChange(tags=tags), None)  # type: ignore[arg-type]
    host.storpool.calls.clear()
    return volume


def tags_of(host: FakeHost, volume: Volume) -> dict[str, str]:
    return dict(host.storpool.volumes[volume.global_id].tags)


def test_tags_are_set_on_all_and_other_tags_stay(host: FakeHost) -> None:
    first, second = tagged(host, cs="volume"), tagged(host)
    command = StorPoolCreateTags(volumes=[str(first.reference), str(second.reference)], set={"vc-policy": "daily"})
    created = host.succeed(command)
    assert [(each.before, each.after) for each in created.volumes] == [
        ({"cs": "volume"}, {"cs": "volume", "vc-policy": "daily"}),
        ({}, {"vc-policy": "daily"}),
    ]
    assert tags_of(host, second) == {"vc-policy": "daily"}


def test_tags_that_are_there_are_not_set_again(host: FakeHost) -> None:
    volume = tagged(host, qc="gold")
    host.succeed(StorPoolCreateTags(volumes=[str(volume.reference)], set={"qc": "gold"}))
    assert "update_volume" not in host.storpool.calls


def test_no_volume_is_touched_unless_all_exist(host: FakeHost) -> None:
    volume = tagged(host)
    command = StorPoolCreateTags(volumes=[str(volume.reference), "~d.n.zz"], set={"qc": "gold"})
    failure = host.fail(command)
    assert (failure.code, failure.side_effects, tags_of(host, volume)) == (ErrorCode.VOLUME_NOT_FOUND, "none", {})


def test_a_failure_in_between_says_which_are_left(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = [tagged(host) for _ in range(3)]
    update = host.storpool.update_volume

    def fail_second(volume: Volume, *arguments: Any) -> None:
        if volume.global_id == volumes[1].global_id:
            raise StorPoolUnavailable("down")
        update(volume, *arguments)

    monkeypatch.setattr(host.storpool, "update_volume", fail_second)
    command = StorPoolCreateTags(volumes=[str(each.reference) for each in volumes], set={"qc": "gold"})
    failure = host.fail(command)
    assert (failure.code, failure.side_effects) == (ErrorCode.TAGS_NOT_SET, "partial")
    assert (failure.facts["set"], failure.facts["left"]) == (
        [volumes[0].global_id],
        [volumes[1].global_id, volumes[2].global_id],
    )
    monkeypatch.undo()
    assert [each.before for each in host.succeed(command).volumes] == [{"qc": "gold"}, {}, {}]


def test_a_failure_before_anything_was_set_is_what_storpool_said(host: FakeHost) -> None:
    volume = tagged(host)
    host.storpool.failures["update_volume"] = [StorPoolUnavailable("down")]
    failure = host.fail(StorPoolCreateTags(volumes=[str(volume.reference)], set={"qc": "gold"}))
    assert (failure.code, failure.side_effects) == (ErrorCode.STORPOOL_UNAVAILABLE, "none")


def test_a_tag_that_was_not_taken_is_a_failure(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = tagged(host)
    monkeypatch.setattr(host.storpool, "update_volume", lambda *_args: None)
    failure = host.fail(StorPoolCreateTags(volumes=[str(volume.reference)], set={"qc": "gold"}))
    assert (failure.code, failure.facts["wrong"]) == (ErrorCode.STORPOOL_BAD_ANSWER, ["qc"])


def test_tags_are_removed_where_they_are(host: FakeHost) -> None:
    volume = tagged(host, cs="volume", **{"vc-policy": "daily"})
    command = StorPoolDeleteTags(volumes=["~d.n.zz", str(volume.reference)], remove=["vc-policy", "qc"])
    [one] = host.succeed(command).volumes
    assert (one.global_id, one.after) == (volume.global_id, {"cs": "volume"})
    host.storpool.calls.clear()
    host.succeed(command)
    assert "update_volume" not in host.storpool.calls


def test_an_attached_disk_is_its_machines(host: FakeHost) -> None:
    volume, machine = tagged(host, cs="volume"), host.machine()
    host.succeed(AttachDisk(vm=machine.name, volume=str(volume.reference), **LABELS))
    assert tags_of(host, volume) == {**VM_TAGS, "cs": "volume", "cvm": machine.uuid}


def test_a_detached_disk_is_nobodys_and_keeps_its_tier(host: FakeHost) -> None:
    volume, machine = tagged(host, cs="volume"), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference), **LABELS))
    host.succeed(DetachDisk(vm=machine.name, volume=str(volume.reference)))
    assert tags_of(host, volume) == {"cs": "volume", "qc": "gold"}


def test_an_attach_that_is_repeated_sets_no_tags(host: FakeHost) -> None:
    volume, machine = tagged(host), host.machine()
    command = AttachDisk(vm=machine.uuid, volume=str(volume.reference), **LABELS)
    host.succeed(command)
    host.storpool.calls.clear()
    host.succeed(command)
    assert "update_volume" not in host.storpool.calls


def test_an_attach_whose_tags_failed_is_a_failure_and_stays_attached(host: FakeHost) -> None:
    volume, machine = tagged(host), host.machine()
    host.storpool.failures["update_volume"] = [StorPoolUnavailable("down")]
    command = AttachDisk(vm=machine.uuid, volume=str(volume.reference), **LABELS)
    failure = host.fail(command)
    assert (failure.code, failure.retry, failure.side_effects) == (ErrorCode.TAGS_NOT_SET, "retryable", "partial")
    assert (volume.global_id, 1) in host.storpool.attached
    assert list(machine.live)
    again = host.succeed(command)
    assert (again.attached_now, tags_of(host, volume)["cvm"]) == (False, machine.uuid)


def test_a_detach_whose_tags_failed_is_a_failure_and_stays_detached(host: FakeHost) -> None:
    volume, machine = tagged(host), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference), **LABELS))
    host.storpool.failures["update_volume"] = [StorPoolTimeout("no answer")]
    command = DetachDisk(vm=machine.uuid, volume=str(volume.reference))
    failure = host.fail(command)
    assert (failure.code, failure.side_effects) == (ErrorCode.TAGS_NOT_SET, "partial")
    assert (host.storpool.attached, machine.live) == ({}, {})
    again = host.succeed(command)
    assert (again.unplugged_now, tags_of(host, volume)) == (False, {"qc": "gold"})


def test_a_late_detach_leaves_the_tags_of_the_next_machine_alone(host: FakeHost) -> None:
    volume, machine = tagged(host), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference), **LABELS))
    host.storpool.update_volume(volume, VolumeChange(tags={"cvm": "vm-2"}), None)  # type: ignore[arg-type]
    host.succeed(DetachDisk(vm=machine.uuid, volume=str(volume.reference)))
    assert tags_of(host, volume) == {**VM_TAGS, "cvm": "vm-2"}


def test_the_next_machine_may_come_while_the_disk_is_being_detached(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, machine = tagged(host), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference), **LABELS))
    detach = host.storpool.detach

    def detach_and_lose(*arguments: Any, **options: Any) -> None:
        detach(*arguments, **options)
        host.storpool.update_volume(volume, VolumeChange(tags={"cvm": "vm-2"}), None)  # type: ignore[arg-type]

    monkeypatch.setattr(host.storpool, "detach", detach_and_lose)
    host.succeed(DetachDisk(vm=machine.uuid, volume=str(volume.reference)))
    assert tags_of(host, volume)["cvm"] == "vm-2"


def test_a_machine_that_is_gone_leaves_no_tags(host: FakeHost) -> None:
    volume = tagged(host, **VM_TAGS)
    host.succeed(DetachDisk(vm="vm-1", volume=str(volume.reference)))
    assert tags_of(host, volume) == {"qc": "gold"}


def test_connecting_for_a_machine_sets_its_tags(host: FakeHost) -> None:
    volume = tagged(host)
    host.succeed(ConnectPhysicalDisk(volume=str(volume.reference), vm_uuid="vm-1", **LABELS))
    assert tags_of(host, volume) == VM_TAGS


def test_connecting_for_nobody_sets_none(host: FakeHost) -> None:
    volume = tagged(host, cvm="vm-1")
    host.succeed(ConnectPhysicalDisk(volume=str(volume.reference)))
    host.succeed(DisconnectPhysicalDisk(volume=str(volume.reference)))
    assert tags_of(host, volume) == {"cvm": "vm-1"}
    assert "update_volume" not in host.storpool.calls


@pytest.mark.parametrize("by_path", [False, True], ids=["by reference", "by path"])
def test_disconnecting_from_a_machine_removes_its_tags(host: FakeHost, by_path: bool) -> None:
    volume = tagged(host, **VM_TAGS)
    if by_path:
        path = f"/dev/storpool-byid/{volume.global_id}"
        host.succeed(DisconnectPhysicalDiskByPath(path=path, vm_uuid="VM-1"))
    else:
        host.succeed(DisconnectPhysicalDisk(volume=str(volume.reference), vm_uuid="VM-1"))
    assert tags_of(host, volume) == {"qc": "gold"}


def test_a_snapshot_stays_tagged_with_the_machine_it_was_taken_of(host: FakeHost) -> None:
    snapshot = host.storpool.add(snapshot=True)
    host.storpool.volumes[snapshot.global_id] = Volume(
        snapshot.global_id, snapshot.name, snapshot.size_bytes, snapshot=True, tags={"cvm": "vm-1"}
    )
    host.succeed(DisconnectPhysicalDisk(snapshot=str(snapshot.reference), vm_uuid="vm-1"))
    assert tags_of(host, snapshot) == {"cvm": "vm-1"}
    assert not {"volume", "update_volume"} & set(host.storpool.calls)
