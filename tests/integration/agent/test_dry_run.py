# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""dryRun on real parts: StorPool, devices and machine are after it as they were before."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_process import Stack, running_stack
from guest import SilentGuest
from storpool_commands.client import CommandFailed
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DisconnectPhysicalDisk,
    IoTune,
    SetDiskQos,
    StorpoolResize,
)
from storpool_commands.dry_run import DryRun
from storpool_commands.errors import ErrorCode
from storpool_commands.snapshots import RevertSnapshot, TakeSnapshot
from storpool_commands.vm_snapshots import TakeVmSnapshot
from storpool_commands.volumes import CreateVolume, DeleteVolume, FenceVolumes

MIB = 1 << 20


@pytest.fixture(scope="module")
def stack(services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    root = tmp_path_factory.mktemp("dev")
    root.parent.chmod(0o755)
    root.chmod(0o755)
    with running_stack(device_root=root) as running:
        yield running


@pytest.fixture(scope="module")
def machine(stack: Stack) -> Iterator[SilentGuest]:
    with SilentGuest() as machine:
        yield machine


@pytest.fixture(scope="module")
def used(stack: Stack, machine: SilentGuest) -> str:
    """A volume that the machine has as a disk."""
    volume = stack.create()
    stack.call(AttachDisk(vm=machine.uuid, volume=volume))
    return volume


@pytest.fixture
def free(stack: Stack) -> str:
    """A volume that is attached nowhere."""
    return stack.create()


def commands(stack: Stack, machine: SilentGuest, used: str, free: str) -> list[Any]:
    snapshot = f"~{stack.storpool.call('POST', f'VolumeSnapshot/{free}', {})['snapshotGlobalId']}"
    return [
        ConnectPhysicalDisk(volume=free, vm_uuid=machine.uuid, generation=5),
        DisconnectPhysicalDisk(volume=free),
        AttachDisk(vm=machine.uuid, volume=free),
        StorpoolResize(volume=used, new_size_bytes=32 * MIB),
        SetDiskQos(vm=machine.uuid, volume=used, iotune=IoTune(total_iops_sec=100)),
        DetachDisk(vm=machine.uuid, volume=used),
        CreateVolume(size_bytes=MIB, template="dev"),
        DeleteVolume(volume=free, delete_after_s=60),
        FenceVolumes(volumes=[free], confirm_fenced=True, reason="test"),
        TakeSnapshot(volume=used),
        RevertSnapshot(volume=free, snapshot=snapshot, safety_snapshot=True),
        TakeVmSnapshot(volumes=[used, free]),
    ]


def test_a_dry_run_leaves_everything_as_it_is(stack: Stack, machine: SilentGuest, used: str, free: str) -> None:
    for command in commands(stack, machine, used, free):
        before = state(stack, machine)
        reply = stack.management.ask(command, host=stack.host, dry_run=True)
        assert reply.result == DryRun(body_command=command.command)
        assert reply.steps
        assert state(stack, machine) == before, command
    assert stack.call(ConnectPhysicalDisk(volume=free, generation=1)).attached_now


def test_a_dry_run_fails_as_the_command_would(stack: Stack, machine: SilentGuest, used: str, free: str) -> None:
    wanted = AttachDisk(vm=machine.uuid, volume=free, target="vda")
    before = state(stack, machine)
    with pytest.raises(CommandFailed) as planned:
        stack.management.ask(wanted, host=stack.host, dry_run=True)
    assert (planned.value.code, planned.value.reply.side_effects) == (ErrorCode.TARGET_TAKEN, "none")
    assert state(stack, machine) == before


def state(stack: Stack, machine: SilentGuest) -> Any:
    """What a command could change, as the other sides have it."""
    sides = [stack.storpool.call("GET", query) for query in ("VolumesList", "SnapshotsList", "AttachmentsList")]
    links = sorted(path.name for path in Path(stack.device_root, "storpool-byid").iterdir())
    return sides, links, machine.connection.lookupByUUIDString(machine.uuid).XMLDesc()
