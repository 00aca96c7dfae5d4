# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Plugging and unplugging: what is undone when the machine refuses, what waits for the guest."""

import pytest

from fake_host import FakeHost
from storpool_agent.errors import LibvirtRefused, LibvirtTimeout, StorPoolUnavailable
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, DetachDisk
from storpool_commands.errors import ErrorCode


def test_what_the_machine_refuses_is_disconnected_again(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine()
    host.domains.fail("plug", LibvirtRefused("no"))
    failure = host.fail(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    assert (failure.code, failure.side_effects) == (ErrorCode.LIBVIRT_REFUSED, "none")
    assert host.storpool.attached == {}


def test_what_was_connected_before_stays_connected(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine()
    host.succeed(ConnectPhysicalDisk(volume=str(volume.reference)))
    host.domains.fail("plug", LibvirtRefused("no"))
    host.fail(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    assert (volume.global_id, 1) in host.storpool.attached


def test_a_machine_that_may_have_the_disk_keeps_its_volume(host: FakeHost) -> None:
    """libvirt did not answer: pulling the volume away could cut a running guest off from its disk."""
    volume, machine = host.storpool.add(), host.machine()
    host.domains.fail("plug", LibvirtTimeout("silent"))
    failure = host.fail(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    assert (failure.code, failure.retry, failure.side_effects) == (ErrorCode.LIBVIRT_TIMEOUT, "uncertain", "partial")
    assert (volume.global_id, 1) in host.storpool.attached


def test_a_disk_of_another_machine_is_refused_before_anything_is_done(host: FakeHost) -> None:
    volume, first, second = host.storpool.add(), host.machine(), host.machine()
    host.succeed(AttachDisk(vm=first.uuid, volume=str(volume.reference)))
    failure = host.fail(AttachDisk(vm=second.uuid, volume=str(volume.reference)))
    assert (failure.code, failure.facts["vm"]) == (ErrorCode.DISK_IN_USE_BY_VM, first.uuid)


def test_a_stopped_machine_gets_the_disk_for_its_next_start(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine(running=False)
    attached = host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    assert (attached.live, attached.persistent) == (False, True)


def test_a_stopped_machine_is_refused_where_a_running_one_is_required(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine(running=False)
    failure = host.fail(AttachDisk(vm=machine.uuid, volume=str(volume.reference), require_running=True))
    assert (failure.code, host.storpool.attached) == (ErrorCode.VM_NOT_RUNNING, {})


def test_a_guest_that_does_not_let_go_keeps_the_volume_attached(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    machine.answers = False
    failure = host.fail(DetachDisk(vm=machine.uuid, volume=str(volume.reference), wait_guest_s=0))
    assert failure.code is ErrorCode.UNPLUG_PENDING
    assert (volume.global_id, 1) in host.storpool.attached
    assert [one.vm for one in host.journal.unplugs.pending()] == [machine.uuid]


@pytest.mark.parametrize("command", [AttachDisk, ConnectPhysicalDisk], ids=["attach", "connect"])
def test_a_volume_about_to_be_let_go_is_given_to_nobody(host: FakeHost, command: type[AttachDisk]) -> None:
    volume, machine = host.storpool.add(), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    machine.answers = False
    host.fail(DetachDisk(vm=machine.uuid, volume=str(volume.reference), wait_guest_s=0))
    extra = {"vm": machine.uuid} if command is AttachDisk else {}
    again = command.model_validate({"volume": str(volume.reference), **extra})
    assert host.fail(again).code is ErrorCode.UNPLUG_PENDING


def test_a_detach_that_is_sent_again_when_the_guest_has_let_go_finishes(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    machine.answers = False
    host.fail(DetachDisk(vm=machine.uuid, volume=str(volume.reference), wait_guest_s=0))
    host.domains.let_go(machine.uuid)
    assert host.succeed(DetachDisk(vm=machine.uuid, volume=str(volume.reference))).detached_now
    assert host.journal.unplugs.pending() == []


def test_a_detach_from_a_machine_that_is_gone_disconnects_the_volume(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.succeed(ConnectPhysicalDisk(volume=str(volume.reference)))
    gone = host.succeed(DetachDisk(vm="no-such-vm", volume=str(volume.reference)))
    assert (gone.vm, gone.unplugged_now, gone.detached_now) == (None, False, True)


def test_an_undo_never_hides_why_the_command_failed(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine()
    host.domains.fail("plug", LibvirtRefused("no"))
    host.storpool.failures["detach"] = [StorPoolUnavailable("down")]
    failure = host.fail(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    assert (failure.code, failure.side_effects) == (ErrorCode.LIBVIRT_REFUSED, "partial")
