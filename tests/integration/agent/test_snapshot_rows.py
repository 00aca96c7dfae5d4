# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of the functionality table: snapshots taken, deleted, reverted to, by what a guest reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_process import Stack, running_stack
from guest import Disk, Guest, pattern_checksum
from integration.agent import contents
from storpool_commands.client import CommandFailed
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, DetachDisk, DisconnectPhysicalDisk
from storpool_commands.errors import ErrorCode
from storpool_commands.snapshots import DeleteSnapshot, DeleteTemplate, RevertSnapshot, TakeSnapshot
from storpool_commands.volumes import CreateVolumeFromSnapshot, CreateVolumeFromTemplate, DeleteVolume

MIB = 1 << 20


@pytest.fixture(scope="module")
def stack(services: None) -> Iterator[Stack]:
    with running_stack() as running:
        yield running


@pytest.fixture(scope="module")
def guest(stack: Stack) -> Iterator[Guest]:
    root = stack.create(32 * MIB)
    path = stack.call(ConnectPhysicalDisk(volume=root)).path
    with Guest([Disk(Path(path), "vda", serial="root")], persistent=True) as running:
        yield running


def snapshots(stack: Stack) -> dict[str, str]:
    """Those that are not deleted: global id to the value of `cs`."""
    listed = stack.storpool.call("GET", "SnapshotsList")
    return {one["globalId"]: one["tags"].get("cs", "") for one in listed if not one["deleted"]}


def test_create_volume_snapshot(stack: Stack, guest: Guest) -> None:
    """Of a disk in use; what the guest writes afterwards is not in it."""
    volume = stack.create()
    stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial="live"))
    disk = guest.wait_for_disk("live").name
    guest.write(disk, 0, 2, "before")
    taken = stack.call(TakeSnapshot(volume=volume, uuid="snap-1", vm_uuid=guest.uuid))
    guest.write(disk, 0, 2, "after")
    tags = {"cs": "snapshot", "uuid": "snap-1", "cvm": guest.uuid}
    assert (taken.volume, {**taken.tags, **tags}) == (volume[1:], taken.tags)
    copy = f"~{stack.call(CreateVolumeFromSnapshot(snapshot=f'~{taken.global_id}')).global_id}"
    stack.call(DetachDisk(vm=guest.uuid, volume=volume))
    guest.wait_until_gone("live")
    stack.call(AttachDisk(vm=guest.uuid, volume=copy, serial="copy"))
    assert guest.checksum(guest.wait_for_disk("copy").name, 0, 2) == pattern_checksum(0, 2, "before")
    stack.call(DetachDisk(vm=guest.uuid, volume=copy))


def test_delete_snapshot(stack: Stack) -> None:
    """Not while somebody reads it; what was made from it stays."""
    volume = stack.create()
    contents.write(stack, volume, "Monday")
    snapshot = f"~{stack.call(TakeSnapshot(volume=volume)).global_id}"
    copy = stack.call(CreateVolumeFromSnapshot(snapshot=snapshot))
    stack.call(ConnectPhysicalDisk(snapshot=snapshot))
    with pytest.raises(CommandFailed) as failure:
        stack.call(DeleteSnapshot(snapshot=snapshot))
    assert (failure.value.code, failure.value.facts["clients"]) == (ErrorCode.VOLUME_BUSY, ["1"])
    stack.call(DisconnectPhysicalDisk(snapshot=snapshot))
    assert stack.call(DeleteSnapshot(snapshot=snapshot)).deleted_now
    assert not stack.call(DeleteSnapshot(snapshot=snapshot)).deleted_now
    assert snapshot[1:] not in snapshots(stack)
    with pytest.raises(CommandFailed) as failure:
        stack.call(CreateVolumeFromSnapshot(snapshot=snapshot))
    assert failure.value.code is ErrorCode.SNAPSHOT_NOT_FOUND
    assert contents.read(stack, volume=f"~{copy.global_id}") == "Monday"


def test_delete_template(stack: Stack) -> None:
    source = stack.create()
    contents.write(stack, source, "Debian")
    template = f"~{stack.call(TakeSnapshot(volume=source, tags={'cs': 'template'})).global_id}"
    stack.call(DeleteVolume(volume=source))
    root = stack.call(CreateVolumeFromTemplate(snapshot=template, template="dev"))
    assert stack.call(DeleteTemplate(snapshot=template)).deleted_now
    assert not stack.call(DeleteTemplate(snapshot=template)).deleted_now
    assert contents.read(stack, volume=f"~{root.global_id}") == "Debian"


def test_revert_data_volume_to_snapshot(stack: Stack, guest: Guest) -> None:
    volume = stack.create()
    stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial="data", vc_policy="daily"))
    disk = guest.wait_for_disk("data").name
    guest.write(disk, 3, 4, "first")
    snapshot = f"~{stack.call(TakeSnapshot(volume=volume)).global_id}"
    guest.write(disk, 3, 4, "second")
    command = RevertSnapshot(volume=volume, snapshot=snapshot, safety_snapshot=True, detach=True)
    with pytest.raises(CommandFailed) as failure:
        stack.call(command)
    assert failure.value.code is ErrorCode.DISK_IN_USE_BY_VM
    assert guest.checksum(disk, 3, 4) == pattern_checksum(3, 4, "second")
    stack.call(DetachDisk(vm=guest.uuid, volume=volume))
    guest.wait_until_gone("data")
    reverted = stack.call(command)
    assert snapshots(stack)[str(reverted.safety_snapshot)] == "safety"
    stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial="data"))
    assert guest.checksum(guest.wait_for_disk("data").name, 3, 4) == pattern_checksum(3, 4, "first")
    stack.call(DetachDisk(vm=guest.uuid, volume=volume))
    guest.wait_until_gone("data")
    undone = RevertSnapshot(volume=volume, snapshot=f"~{reverted.safety_snapshot}")
    stack.call(undone)
    stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial="data"))
    assert guest.checksum(guest.wait_for_disk("data").name, 3, 4) == pattern_checksum(3, 4, "second")
    stack.call(DetachDisk(vm=guest.uuid, volume=volume))


def test_revert_root_volume_to_snapshot(stack: Stack) -> None:
    """The machine starts again with the file system that it had."""
    root = stack.create(64 * MIB)
    with booted(stack, root) as machine:
        machine.save("diary", "monday")
        machine.poweroff()
    stack.call(DisconnectPhysicalDisk(volume=root))
    snapshot = f"~{stack.call(TakeSnapshot(volume=root)).global_id}"
    with booted(stack, root) as machine:
        assert (machine.load("diary"), machine.boots()) == ("monday", 2)
        machine.save("diary", "tuesday")
        machine.poweroff()
    reverted = stack.call(RevertSnapshot(volume=root, snapshot=snapshot, detach=True))
    assert (reverted.size_bytes, stack.attachments(root)) == (64 * MIB, [])
    with booted(stack, root) as machine:
        assert (machine.load("diary"), machine.boots()) == ("monday", 2)
        machine.poweroff()
    stack.call(DisconnectPhysicalDisk(volume=root))


def booted(stack: Stack, root: str) -> Guest:
    path = stack.call(ConnectPhysicalDisk(volume=root)).path
    return Guest([Disk(Path(path), "vda", serial="root")], root="vda")


def test_a_volume_of_another_host_is_not_reverted(stack: Stack) -> None:
    volume = stack.create()
    contents.write(stack, volume, "first")
    snapshot = f"~{stack.call(TakeSnapshot(volume=volume)).global_id}"
    contents.write(stack, volume, "second")
    stack.storpool.attach(volume[1:], client=2)
    with pytest.raises(CommandFailed) as failure:
        stack.call(RevertSnapshot(volume=volume, snapshot=snapshot))
    assert (failure.value.code, failure.value.facts["clients"]) == (ErrorCode.VOLUME_BUSY, ["2"])
    stack.storpool.detach(volume[1:], client=2)
    assert contents.read(stack, volume=volume) == "second"
    stack.call(RevertSnapshot(volume=volume, snapshot=snapshot))
    assert contents.read(stack, volume=volume) == "first"
