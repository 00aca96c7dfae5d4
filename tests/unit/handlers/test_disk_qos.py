# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Limits of a machine's disk."""

from fake_host import FakeHost
from storpool_agent.errors import LibvirtTimeout
from storpool_commands.disks import AttachDisk, IoTune, SetDiskQos
from storpool_commands.errors import ErrorCode


def test_limits_that_are_not_named_stay(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine()
    reference = str(volume.reference)
    host.succeed(AttachDisk(vm=machine.uuid, volume=reference, iotune=IoTune(read_iops_sec=100)))
    qos = host.succeed(SetDiskQos(vm=machine.uuid, volume=reference, iotune=IoTune(write_iops_sec=50)))
    assert (qos.vm, qos.target, qos.live, qos.persistent) == (machine.uuid, "vda", True, True)
    assert (qos.read_iops_sec, qos.write_iops_sec, qos.total_bytes_sec) == (100, 50, 0)


def test_a_stopped_machine_has_them_at_its_next_start(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine(running=False)
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    tune = IoTune(total_bytes_sec=1 << 20)
    qos = host.succeed(SetDiskQos(vm=machine.name, volume=str(volume.reference), iotune=tune))
    assert (qos.live, qos.persistent, qos.total_bytes_sec) == (False, True, 1 << 20)


def test_limits_that_contradict_those_that_are_set_are_refused(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine()
    reference = str(volume.reference)
    host.succeed(AttachDisk(vm=machine.uuid, volume=reference, iotune=IoTune(total_iops_sec=100)))
    failure = host.fail(SetDiskQos(vm=machine.uuid, volume=reference, iotune=IoTune(read_iops_sec=50)))
    assert (failure.code, failure.side_effects) == (ErrorCode.INVALID_COMMAND, "none")


def test_a_disk_that_the_machine_does_not_have_is_refused(host: FakeHost) -> None:
    volume, machine, other = host.storpool.add(), host.machine(), host.machine()
    host.succeed(AttachDisk(vm=other.uuid, volume=str(volume.reference)))
    failure = host.fail(SetDiskQos(vm=machine.uuid, volume=str(volume.reference), iotune=IoTune(read_iops_sec=50)))
    assert (failure.code, failure.facts["vm"]) == (ErrorCode.DISK_NOT_FOUND, machine.uuid)


def test_a_silent_libvirt_may_have_set_them(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    host.domains.fail("tune", LibvirtTimeout("silent"))
    failure = host.fail(SetDiskQos(vm=machine.uuid, volume=str(volume.reference), iotune=IoTune(read_iops_sec=50)))
    assert (failure.code, failure.side_effects) == (ErrorCode.LIBVIRT_TIMEOUT, "partial")
