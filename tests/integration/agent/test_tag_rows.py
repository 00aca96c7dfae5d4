# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of the functionality table: the tags of a machine's disks, above all the policy of VolumeCare."""

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_process import Stack, running_stack
from guest import Disk, Guest
from storpool_commands.client import CommandFailed
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, DetachDisk, DisconnectPhysicalDisk
from storpool_commands.envelope import Event
from storpool_commands.errors import ErrorCode
from storpool_commands.snapshots import RevertSnapshot, TakeSnapshot
from storpool_commands.tags import StorPoolCreateTags, StorPoolDeleteTags
from storpool_commands.volumes import CreateVolume

MIB = 1 << 20
EVENT_TIMEOUT_S = 30.0
POLICY = "vc-policy"


@pytest.fixture(scope="module")
def stack(services: None) -> Iterator[Stack]:
    with running_stack() as running:
        yield running


@pytest.fixture(scope="module")
def root(stack: Stack) -> str:
    return f"~{stack.call(CreateVolume(size_bytes=32 * MIB, template='dev')).global_id}"


@pytest.fixture(scope="module")
def guest(stack: Stack, root: str) -> Iterator[Guest]:
    path = stack.call(ConnectPhysicalDisk(volume=root)).path
    with Guest([Disk(Path(path), "vda", serial="root")], persistent=True) as running:
        stack.call(ConnectPhysicalDisk(volume=root, vm_uuid=running.uuid, disk_id=0))
        yield running


@pytest.fixture
def data(stack: Stack, guest: Guest) -> Iterator[str]:
    """A data disk of the guest, made for it, without a policy."""
    volume = f"~{stack.call(CreateVolume(size_bytes=MIB, template='dev')).global_id}"
    stack.call(AttachDisk(vm=guest.uuid, volume=volume, disk_id=1))
    yield volume
    stack.call(DetachDisk(vm=guest.uuid, volume=volume))


def tags(stack: Stack, volume: str) -> dict[str, str]:
    """As StorPool itself lists them, without the agent's own."""
    [found] = stack.storpool.call("GET", f"Volume/{volume}")
    return {name: value for name, value in found["tags"].items() if not name.startswith("sp-op")}


def test_vc_policy_tag_on_all_disks_of_a_vm(stack: Stack, guest: Guest, root: str, data: str) -> None:
    assert tags(stack, root) == {"cs": "volume", "cvm": guest.uuid, "disk": "0"}
    created = stack.call(StorPoolCreateTags(volumes=[root, data], set={POLICY: "daily"}))
    assert [POLICY in one.before for one in created.volumes] == [False, False]
    for volume, disk in ((root, "0"), (data, "1")):
        assert tags(stack, volume) == {"cs": "volume", "cvm": guest.uuid, "disk": disk, POLICY: "daily"}
    stack.call(StorPoolDeleteTags(volumes=[root], remove=[POLICY]))


def test_delete_vc_policy_tag(stack: Stack, guest: Guest, root: str, data: str) -> None:
    stack.call(StorPoolCreateTags(volumes=[root, data], set={POLICY: "daily"}))
    deleted = stack.call(StorPoolDeleteTags(volumes=[root, data], remove=[POLICY]))
    assert [(one.before[POLICY], POLICY in one.after) for one in deleted.volumes] == [("daily", False)] * 2
    assert tags(stack, data) == {"cs": "volume", "cvm": guest.uuid, "disk": "1"}


def test_vc_policy_tag_on_a_disk_attached_later(stack: Stack, guest: Guest) -> None:
    volume = stack.create()
    stack.call(AttachDisk(vm=guest.name, volume=volume, vc_policy="daily", tier="gold", disk_id=2))
    assert tags(stack, volume) == {"cvm": guest.uuid, POLICY: "daily", "qc": "gold", "disk": "2"}
    stack.call(DetachDisk(vm=guest.name, volume=volume))


def test_vc_policy_tag_gone_from_a_detached_one(stack: Stack, guest: Guest) -> None:
    volume = stack.create()
    stack.call(AttachDisk(vm=guest.uuid, volume=volume, vc_policy="daily", tier="gold", disk_id=2))
    stack.call(DetachDisk(vm=guest.uuid, volume=volume))
    assert tags(stack, volume) == {"qc": "gold"}
    stack.call(ConnectPhysicalDisk(volume=volume, vm_uuid=guest.uuid, vc_policy="daily"))
    stack.call(DisconnectPhysicalDisk(volume=volume, vm_uuid=guest.uuid))
    assert tags(stack, volume) == {"qc": "gold"}


def test_vc_policy_tag_gone_from_one_that_the_guest_lets_go_of_late(stack: Stack, guest: Guest) -> None:
    volume = stack.create()
    stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial="late", vc_policy="daily"))
    guest.wait_for_disk("late")
    events: queue.Queue[Event] = queue.Queue()
    guest.pause()
    with stack.management.events("*.attachment.detached", events.put):
        with pytest.raises(CommandFailed) as failure:
            stack.call(DetachDisk(vm=guest.uuid, volume=volume, wait_guest_s=0.5))
        assert failure.value.code is ErrorCode.UNPLUG_PENDING
        assert tags(stack, volume)[POLICY] == "daily"
        guest.resume()
        assert events.get(timeout=EVENT_TIMEOUT_S).subject == volume[1:]
    assert tags(stack, volume) == {}


def test_vc_policy_tag_survives_revert(stack: Stack) -> None:
    volume = stack.create()
    snapshot = f"~{stack.call(TakeSnapshot(volume=volume)).global_id}"
    stack.call(StorPoolCreateTags(volumes=[volume], set={POLICY: "daily", "cvm": "vm-1"}))
    stack.call(RevertSnapshot(volume=volume, snapshot=snapshot))
    assert tags(stack, volume) == {POLICY: "daily", "cvm": "vm-1"}


def test_tags_that_fail_leave_the_disk_attached_and_are_set_by_the_next_try(stack: Stack, guest: Guest) -> None:
    volume = stack.create()
    refusal = {"kind": "error", "name": "invalidParam", "descr": "no more tags"}
    stack.storpool.sim.fault(refusal, query="VolumeUpdate")
    command = AttachDisk(vm=guest.uuid, volume=volume, serial="tagged", vc_policy="daily")
    with pytest.raises(CommandFailed) as failure:
        stack.call(command)
    assert (failure.value.code, failure.value.side_effects) == (ErrorCode.TAGS_NOT_SET, "partial")
    guest.wait_for_disk("tagged")
    assert not stack.call(command).attached_now
    assert tags(stack, volume) == {"cvm": guest.uuid, POLICY: "daily"}
    stack.call(DetachDisk(vm=guest.uuid, volume=volume))
