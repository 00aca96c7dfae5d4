# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Volumes in a running guest: plugged, grown, unplugged; and a guest that does not let go."""

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_process import Stack
from guest import Disk, Guest
from storpool_commands.client import CommandFailed
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DisconnectPhysicalDisk,
    GetPhysicalDisk,
    StorpoolResize,
)
from storpool_commands.envelope import Event
from storpool_commands.errors import ErrorCode

MIB = 1 << 20
EVENT_TIMEOUT_S = 30.0
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def guest(stack: Stack) -> Iterator[Guest]:
    root = stack.create(32 * MIB)
    path = stack.call(ConnectPhysicalDisk(volume=root)).path
    with Guest([Disk(Path(path), "vda", serial="root")], persistent=True) as running:
        yield running


def test_what_a_guest_wrote_is_there_after_the_disk_was_away(stack: Stack, guest: Guest) -> None:
    volume = stack.create(64 * MIB)
    attached = stack.call(AttachDisk(vm=guest.name, volume=volume, serial="data"))
    assert (attached.live, attached.persistent, attached.attached_now) == (True, True, True)
    disk = guest.wait_for_disk("data")
    guest.write(disk.name, 3, 4, "seed")
    checksum = guest.checksum(disk.name, 3, 4)
    resized = stack.call(StorpoolResize(volume=volume, new_size_bytes=96 * MIB))
    assert [(vm.vm, vm.size_bytes) for vm in resized.vms] == [(guest.uuid, 96 * MIB)]
    guest.wait_for_size(disk.name, 96 * MIB)
    detached = stack.call(DetachDisk(vm=guest.uuid, volume=volume))
    assert (detached.unplugged_now, detached.detached_now) == (True, True)
    assert stack.attachments(volume) == []
    stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial="data"))
    assert guest.checksum(guest.wait_for_disk("data").name, 3, 4) == checksum


def test_attach_and_detach_again_do_nothing_and_succeed(stack: Stack, guest: Guest) -> None:
    volume = stack.create()
    stack.call(AttachDisk(vm=guest.uuid, volume=volume))
    again = stack.call(AttachDisk(vm=guest.uuid, volume=volume))
    assert not again.attached_now
    stack.call(DetachDisk(vm=guest.uuid, volume=volume))
    gone = stack.call(DetachDisk(vm=guest.uuid, volume=volume))
    assert (gone.unplugged_now, gone.detached_now) == (False, False)


def test_a_disk_of_a_running_machine_is_not_pulled_from_under_it(stack: Stack, guest: Guest) -> None:
    volume = stack.create()
    stack.call(AttachDisk(vm=guest.uuid, volume=volume))
    with pytest.raises(CommandFailed) as failure:
        stack.call(DisconnectPhysicalDisk(volume=volume))
    assert failure.value.code is ErrorCode.VOLUME_BUSY
    assert guest.name in str(failure.value.facts["holders"])
    with pytest.raises(CommandFailed) as failure:
        stack.call(DisconnectPhysicalDisk(volume=volume, force=True, reason="a test"))
    assert failure.value.code is ErrorCode.DISK_IN_USE_BY_VM
    assert stack.attachments(volume) == [(1, "rw")]


def test_a_guest_that_lets_go_after_a_restart_of_the_agent_is_detached(stack: Stack, guest: Guest) -> None:
    volume = stack.create()
    stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial="slow"))
    guest.wait_for_disk("slow")
    events: queue.Queue[Event] = queue.Queue()
    guest.pause()
    with stack.management.events("*.attachment.detached", events.put):
        with pytest.raises(CommandFailed) as failure:
            stack.call(DetachDisk(vm=guest.uuid, volume=volume, wait_guest_s=1), traceparent=TRACEPARENT)
        assert (failure.value.code, failure.value.retry) == (ErrorCode.UNPLUG_PENDING, "retryable")
        assert stack.attachments(volume) == [(1, "rw")]
        assert stack.call(GetPhysicalDisk(volume=volume)).pending_unplug_vm == guest.uuid
        with pytest.raises(CommandFailed) as refused:
            stack.call(AttachDisk(vm=guest.uuid, volume=volume))
        assert refused.value.code is ErrorCode.UNPLUG_PENDING
        stack.agent.kill()
        stack.agent.start()
        assert stack.attachments(volume) == [(1, "rw")]
        guest.resume()
        event = events.get(timeout=EVENT_TIMEOUT_S)
    assert (event.subject, event.data["vm"]) == (volume.removeprefix("~"), guest.uuid)
    detached = [one for one in stack.storpool.sim.requests("VolumesReassignWait") if "detach" in str(one["body"])]
    told = (event.traceparent or "", detached[-1]["traceparent"])
    assert {one.split("-")[1] for one in told} == {TRACE}
    assert stack.attachments(volume) == []
    assert stack.call(GetPhysicalDisk(volume=volume)).pending_unplug_vm is None
    guest.wait_until_gone("slow")
