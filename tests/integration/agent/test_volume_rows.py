# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of the functionality table: volumes made, changed, deleted, fenced."""

from collections.abc import Callable, Iterator
from time import monotonic, sleep
from uuid import uuid4

import pytest

from agent_process import Stack, running_stack
from integration.agent import contents
from storpool_commands.client import CommandFailed
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk, GetPhysicalDisk
from storpool_commands.errors import ErrorCode
from storpool_commands.snapshots import TakeSnapshot
from storpool_commands.volumes import (
    CreateVolume,
    CreateVolumeFromSnapshot,
    CreateVolumeFromTemplate,
    DeleteVolume,
    FenceVolumes,
    SetQosTier,
    UpdateVolume,
    VolumeSettings,
)

MIB = 1 << 20
QOS_TIMEOUT_S = 20.0
LIMITED = {"iops": 333, "bw": 4444}
"""Of the template `limited`."""


@pytest.fixture(scope="module")
def stack(services: None) -> Iterator[Stack]:
    """With two tiers, and a template that has limits of its own."""
    tiers = ["--qos", "gold=5000,1024", "--qos", "silver=700", "--qos-interval-s", "0.2"]
    with running_stack(storpool_options=tiers) as running:
        template = {"name": "limited", "placeAll": "ssd", "replication": 3, **LIMITED}
        running.storpool.call("POST", "VolumeTemplateCreate", template)
        yield running


def listed(stack: Stack, global_id: str) -> dict[str, object]:
    """The volume as StorPool itself lists it."""
    [found] = stack.storpool.call("GET", f"Volume/~{global_id}")
    return dict(found)


def snapshot_of(stack: Stack, word: str, **options: object) -> str:
    """A snapshot of a volume of 16 MiB that had the word on it, which is gone since."""
    volume = stack.create()
    contents.write(stack, volume, word)
    taken = stack.call(TakeSnapshot.model_validate({"volume": volume, **options}))
    stack.call(DeleteVolume(volume=volume))
    return f"~{taken.global_id}"


def wait_for(reached: Callable[[], bool]) -> None:
    give_up = monotonic() + QOS_TIMEOUT_S
    while not reached():
        assert monotonic() < give_up, f"not within {QOS_TIMEOUT_S} s"
        sleep(0.05)


def test_create_root_volume_from_iso(stack: Stack) -> None:
    """Empty: the machine installs itself on it from the ISO."""
    vm = str(uuid4())
    command = CreateVolume(size_bytes=16 * MIB, template="dev", uuid="root-1", vm_uuid=vm, disk_id=0, vc_policy="daily")
    made = stack.call(command)
    tags = {"cs": "volume", "uuid": "root-1", "cvm": vm, "disk": "0", "vc-policy": "daily"}
    found = listed(stack, made.global_id)
    assert (found["size"], found["templateName"], found["parentName"]) == (16 * MIB, "dev", "")
    assert {name: value for name, value in dict(found["tags"]).items() if name != "sp-op"} == tags  # type: ignore[call-overload]
    assert contents.read(stack, volume=f"~{made.global_id}") == ""


def test_create_data_volume(stack: Stack) -> None:
    made = stack.call(CreateVolume(size_bytes=MIB, template="dev", uuid="data-1", iops=100, encrypted=True))
    found = listed(stack, made.global_id)
    assert (found["size"], found["iops"], made.tags["uuid"]) == (3 * MIB, 100, "data-1")


def test_create_root_volume_from_template(stack: Stack) -> None:
    template = snapshot_of(stack, "Debian", tags={"cs": "template"})
    made = stack.call(CreateVolumeFromTemplate(snapshot=template, size_bytes=32 * MIB, template="dev", uuid="root-2"))
    found = listed(stack, made.global_id)
    assert (made.size_bytes, found["size"], found["parentName"]) == (32 * MIB, 32 * MIB, template)
    assert made.parent == template[1:]
    assert contents.read(stack, volume=f"~{made.global_id}") == "Debian"
    smaller = stack.call(CreateVolumeFromTemplate(snapshot=template, size_bytes=8 * MIB, template="dev"))
    assert smaller.size_bytes == 16 * MIB


def test_create_volume_from_snapshot(stack: Stack) -> None:
    snapshot = snapshot_of(stack, "Monday")
    made = stack.call(CreateVolumeFromSnapshot(snapshot=snapshot, uuid="data-2"))
    assert (made.size_bytes, made.template, made.parent) == (16 * MIB, "dev", snapshot[1:])
    assert contents.read(stack, volume=f"~{made.global_id}") == "Monday"
    with pytest.raises(CommandFailed) as failure:
        stack.call(CreateVolumeFromSnapshot(snapshot=snapshot, size_bytes=8 * MIB))
    assert failure.value.code is ErrorCode.WOULD_SHRINK


def test_delete_root_volume(stack: Stack) -> None:
    """Refused while a host has it, whoever asks; and no failure when it is gone."""
    made = stack.call(CreateVolume(size_bytes=MIB, template="dev"))
    volume = f"~{made.global_id}"
    stack.call(ConnectPhysicalDisk(volume=volume))
    with pytest.raises(CommandFailed) as failure:
        stack.call(DeleteVolume(volume=volume))
    assert (failure.value.code, failure.value.facts["clients"]) == (ErrorCode.VOLUME_BUSY, ["1"])
    stack.call(DisconnectPhysicalDisk(volume=volume))
    assert stack.call(DeleteVolume(volume=volume)).deleted_now
    assert not stack.call(DeleteVolume(volume=volume)).deleted_now
    assert made.global_id not in {one["globalId"] for one in stack.storpool.call("GET", "VolumesList")}


def test_delete_data_volume(stack: Stack) -> None:
    """Its data is kept for a while, as a snapshot that StorPool deletes by itself."""
    volume = stack.create()
    contents.write(stack, volume, "payroll")
    stack.storpool.attach(volume[1:], client=2)
    deleted = stack.call(DeleteVolume(volume=volume, delete_after_s=3600, detach_force=True, reason="host 2 is gone"))
    assert (deleted.deleted_now, stack.attachments(volume)) == (True, [])
    kept = f"~{deleted.kept_snapshot}"
    [found] = stack.storpool.call("GET", f"Snapshot/{kept}")
    assert found["tags"]["cs"] == "delayDelete"
    assert found["targetDeleteDate"] > found["creationTimestamp"]
    assert contents.read(stack, snapshot=kept) == "payroll"
    restored = stack.call(CreateVolumeFromSnapshot(snapshot=kept))
    assert contents.read(stack, volume=f"~{restored.global_id}") == "payroll"


def test_delete_of_a_volume_that_expires(stack: Stack) -> None:
    volume = stack.create()
    deleted = stack.call(DeleteVolume(volume=volume, delete_after_s=1))
    wait_for(
        lambda: (
            deleted.kept_snapshot
            not in {one["globalId"] for one in stack.storpool.call("GET", "SnapshotsList") if not one["deleted"]}
        )
    )


def test_update_iops_limits(stack: Stack) -> None:
    """Also of a volume that is in use."""
    volume = stack.create()
    stack.call(ConnectPhysicalDisk(volume=volume))
    updated = stack.call(UpdateVolume(volume=volume, iops=100, bandwidth_kib_sec=2048))
    assert (updated.before.iops, updated.after.iops, updated.after.bandwidth_kib_sec) == (None, 100, 2048)
    removed = stack.call(UpdateVolume(volume=volume, iops=0))
    assert (removed.after.iops, removed.after.bandwidth_kib_sec) == (None, 2048)
    assert listed(stack, volume[1:])["iops"] == "-"
    stack.call(DisconnectPhysicalDisk(volume=volume))


def test_qos_tier_beats_template(stack: Stack) -> None:
    volume = stack.create()
    updated = stack.call(UpdateVolume(volume=volume, template="limited", tier="gold"))
    assert (updated.after.template, updated.after.tags["qc"]) == ("limited", "gold")
    wait_for(lambda: limits(stack, volume) == (5000, 1024))
    without = stack.call(UpdateVolume(volume=stack.create(), template="limited"))
    assert limits_of(without.after) == (LIMITED["iops"], LIMITED["bw"])


def test_change_tier(stack: Stack) -> None:
    made = stack.call(CreateVolume(size_bytes=MIB, template="dev", tier="silver"))
    volume = f"~{made.global_id}"
    wait_for(lambda: limits(stack, volume) == (700, "-"))
    changed = stack.call(SetQosTier(volume=volume, tier="gold"))
    assert (changed.before, changed.after) == ("silver", "gold")
    wait_for(lambda: limits(stack, volume) == (5000, 1024))
    assert stack.call(SetQosTier(volume=volume, tier="")).after is None
    assert "qc" not in stack.call(GetPhysicalDisk(volume=volume)).tags


def limits(stack: Stack, volume: str) -> tuple[object, object]:
    found = listed(stack, volume[1:])
    return found["iops"], found["bw"]


def limits_of(settings: VolumeSettings) -> tuple[int | None, int | None]:
    return settings.iops, settings.bandwidth_kib_sec


def test_fence_volumes(stack: Stack) -> None:
    first, second = stack.create(), stack.create()
    stack.storpool.attach(first[1:], client=2)
    with pytest.raises(CommandFailed) as failure:
        stack.call(FenceVolumes(volumes=[first, "~d.n.zzzz"], confirm_fenced=True, reason="host 2 lost power"))
    assert (failure.value.code, stack.attachments(first)) == (ErrorCode.VOLUME_NOT_FOUND, [(2, "rw")])
    fenced = stack.call(FenceVolumes(volumes=[first, second], confirm_fenced=True, reason="host 2 lost power"))
    assert [(one.global_id, one.detached_from) for one in fenced.volumes] == [(first[1:], [2]), (second[1:], [])]
    assert stack.attachments(first) == []
    assert stack.call(ConnectPhysicalDisk(volume=first)).attached_now
    stack.call(DisconnectPhysicalDisk(volume=first))
