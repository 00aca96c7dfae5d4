# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Resizing: one layer after the other, never smaller by accident."""

import pytest

from fake_host import FakeHost
from storpool_agent.errors import GuestNotNotified
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, StorpoolResize
from storpool_commands.errors import ErrorCode

MIB = 1 << 20


def test_a_detached_volume_has_no_device_to_wait_for(host: FakeHost) -> None:
    volume = host.storpool.add(MIB)
    resized = host.succeed(StorpoolResize(volume=str(volume.reference), new_size_bytes=2 * MIB))
    assert (resized.previous_size_bytes, resized.device_size_bytes, resized.vms) == (MIB, None, [])


def test_repeating_a_resize_tells_storpool_nothing(host: FakeHost) -> None:
    volume = host.storpool.add(MIB)
    host.succeed(StorpoolResize(volume=str(volume.reference), new_size_bytes=MIB))
    assert "update_volume" not in host.storpool.calls


def test_a_guest_that_was_not_told_is_a_failure_and_the_next_try_does_only_that(host: FakeHost) -> None:
    volume, machine = host.storpool.add(MIB), host.machine()
    path = host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference))).path
    host.domains.fail("resize", GuestNotNotified("no"))
    failure = host.fail(StorpoolResize(volume=str(volume.reference), new_size_bytes=2 * MIB))
    assert (failure.code, failure.side_effects) == (ErrorCode.GUEST_NOT_NOTIFIED, "partial")
    host.domains.sizes[path] = 2 * MIB
    host.storpool.calls.clear()
    told = host.succeed(StorpoolResize(volume=str(volume.reference), new_size_bytes=2 * MIB))
    assert [vm.size_bytes for vm in told.vms] == [2 * MIB]
    assert "update_volume" not in host.storpool.calls


def test_a_volume_is_not_made_smaller_unless_that_is_said(host: FakeHost) -> None:
    volume = host.storpool.add(2 * MIB)
    failure = host.fail(StorpoolResize(volume=str(volume.reference), new_size_bytes=MIB))
    assert (failure.code, host.storpool.volumes[volume.global_id].size_bytes) == (ErrorCode.WOULD_SHRINK, 2 * MIB)


def test_a_volume_is_made_smaller_when_its_size_is_known_and_nobody_has_it(host: FakeHost) -> None:
    volume = host.storpool.add(2 * MIB)
    host.succeed(_shrink(str(volume.reference)))
    assert host.storpool.volumes[volume.global_id].size_bytes == MIB


def test_a_disk_of_a_machine_is_never_made_smaller(host: FakeHost) -> None:
    volume, machine = host.storpool.add(2 * MIB), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    assert host.fail(_shrink(str(volume.reference))).code is ErrorCode.DISK_IN_USE_BY_VM


@pytest.mark.parametrize(
    "unless", [{"expected_size_bytes": 4 * MIB}, {"notify_only": True}], ids=["another size", "not grown yet"]
)
def test_a_volume_of_an_unexpected_size_is_left_alone(host: FakeHost, unless: dict[str, object]) -> None:
    volume = host.storpool.add(2 * MIB)
    command = StorpoolResize.model_validate({"volume": str(volume.reference), "new_size_bytes": 8 * MIB, **unless})
    assert host.fail(command).code is ErrorCode.SIZE_CHANGED
    assert "update_volume" not in host.storpool.calls


def test_a_machine_that_does_not_have_the_volume_is_an_error(host: FakeHost) -> None:
    volume, machine = host.storpool.add(MIB), host.machine()
    command = StorpoolResize(volume=str(volume.reference), new_size_bytes=2 * MIB, vm=machine.uuid)
    assert host.fail(command).code is ErrorCode.DISK_NOT_FOUND
    assert "update_volume" not in host.storpool.calls


def test_a_device_that_does_not_grow_is_told_apart_from_a_volume_that_did_not(host: FakeHost) -> None:
    volume = host.storpool.add(MIB)
    host.succeed(ConnectPhysicalDisk(volume=str(volume.reference)))
    host.devices.sizes[volume.global_id] = MIB
    failure = host.fail(StorpoolResize(volume=str(volume.reference), new_size_bytes=2 * MIB))
    assert (failure.code, failure.side_effects) == (ErrorCode.SIZE_NOT_PROPAGATED, "partial")


def test_the_tier_is_set_by_its_tag(host: FakeHost) -> None:
    volume = host.storpool.add(MIB)
    host.succeed(StorpoolResize(volume=str(volume.reference), new_size_bytes=MIB, tier="gold", iops=0))
    assert host.storpool.volumes[volume.global_id].tags["qc"] == "gold"


def _shrink(volume: str) -> StorpoolResize:
    return StorpoolResize(volume=volume, new_size_bytes=MIB, shrink_ok=True, expected_size_bytes=2 * MIB)
