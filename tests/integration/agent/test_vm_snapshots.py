# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a running guest's disks: at one moment, of file systems that are frozen, back again, gone."""

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agent_process import Stack
from guest import Disk, Guest, pattern_checksum
from storpool_commands.client import CommandFailed
from storpool_commands.control import QueryCommand
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk, IoTune, SetDiskQos
from storpool_commands.errors import ErrorCode
from storpool_commands.vm_snapshots import (
    DeleteVmSnapshot,
    DiskSnapshot,
    RevertVmSnapshot,
    TakenVmSnapshot,
    TakeVmSnapshot,
    VolumeAndSnapshot,
)

MIB = 1 << 20
TOOL_TIMEOUT_S = 30
TARGETS = ("vda", "vdb")


def connected(stack: Stack, size: int = 64 * MIB) -> tuple[str, Path]:
    """A new volume's reference, and its device on this host."""
    volume = stack.create(size)
    return volume, Path(stack.call(ConnectPhysicalDisk(volume=volume)).path)


def run_guest(paths: Sequence[Path], *, agent: bool = False, persistent: bool = False) -> Guest:
    disks = [Disk(path, target) for path, target in zip(paths, TARGETS, strict=False)]
    return Guest(disks, agent=agent, persistent=persistent)


@contextmanager
def writing_guest(stack: Stack) -> Iterator[tuple[Guest, list[str]]]:
    """It writes files on two mounted file systems."""
    volumes, paths = zip(*(connected(stack) for _ in TARGETS), strict=True)
    for path in paths:
        subprocess.run(["mkfs.ext4", "-q", str(path)], check=True, timeout=TOOL_TIMEOUT_S)
    with run_guest(paths, agent=True) as guest:
        for target in TARGETS:
            guest.mount(target)
        yield guest, list(volumes)


@contextmanager
def devices(stack: Stack, snapshots: Sequence[DiskSnapshot]) -> Iterator[list[Path]]:
    references = [f"~{one.snapshot}" for one in snapshots]
    yield [Path(stack.call(ConnectPhysicalDisk(snapshot=one)).path) for one in references]
    for one in references:
        stack.call(DisconnectPhysicalDisk(snapshot=one))


def features(device: Path) -> list[str]:
    header = subprocess.run(
        ["dumpe2fs", "-h", str(device)], capture_output=True, text=True, check=True, timeout=TOOL_TIMEOUT_S
    )
    [line] = [line for line in header.stdout.splitlines() if line.startswith("Filesystem features:")]
    return line.split()[2:]


def is_clean(device: Path) -> bool:
    """Nothing to replay, nothing to mend."""
    check = subprocess.run(["e2fsck", "-fn", str(device)], capture_output=True, check=False, timeout=TOOL_TIMEOUT_S)
    return check.returncode == 0 and "needs_recovery" not in features(device)


def number_on(device: Path) -> int:
    with device.open("rb") as opened:
        return int(opened.read(512))


def taken_snapshots(stack: Stack) -> list[str]:
    listed = stack.storpool.call("GET", "SnapshotsList")
    return sorted(one["globalId"] for one in listed if one["tags"].get("cs") == "group" and not one["deleted"])


def writes_on(guest: Guest) -> bool:
    """It goes on writing: to be asked of a guest that is not frozen, or it takes until the time-out."""
    before = [guest.files(target) for target in TARGETS]
    guest.wait_for_files(dict(zip(TARGETS, before, strict=True)))
    return True


def test_vm_snapshot_group(stack: Stack) -> None:
    """The guest writes a number to one disk and then to the other; no snapshot of two moments could hide it."""
    volumes, paths = zip(*(connected(stack, 8 * MIB) for _ in TARGETS), strict=True)
    with run_guest(paths) as guest:
        guest.count_on(*TARGETS)
        guest.wait_for_count(TARGETS[1])
        seen = set()
        for _ in range(5):
            taken = stack.call(TakeVmSnapshot(volumes=list(volumes), vm_uuid=guest.uuid, uuid="snap"))
            assert (taken.consistency, [f"~{one.volume}" for one in taken.snapshots]) == ("crash", list(volumes))
            with devices(stack, taken.snapshots) as (first, second):
                counts = [number_on(device) for device in (first, second)]
            assert counts[0] - counts[1] in (0, 1), counts
            seen.add(counts[0])
    assert len(seen) > 1
    assert len(taken_snapshots(stack)) == 10


def test_quiesced_snapshot_needs_no_recovery(stack: Stack) -> None:
    with writing_guest(stack) as (guest, volumes):
        crash = stack.call(TakeVmSnapshot(volumes=volumes))
        with devices(stack, crash.snapshots) as paths:
            assert ["needs_recovery" in features(path) for path in paths] == [True, True]
        taken = stack.call(TakeVmSnapshot(volumes=volumes, vm=guest.name, quiesce="require"))
        assert (taken.consistency, taken.not_frozen) == ("file-system", None)
        assert taken.frozen_ms is not None
        with devices(stack, taken.snapshots) as paths:
            assert [is_clean(path) for path in paths] == [True, True]
        assert writes_on(guest)


@pytest.mark.long
def test_a_guest_is_not_frozen_for_longer_than_it_may_be(stack: Stack) -> None:
    with writing_guest(stack) as (guest, volumes):
        stack.storpool.sim.fault({"kind": "hang", "processed": True}, query="VolumesGroupSnapshot")
        command = TakeVmSnapshot(volumes=volumes, vm=guest.uuid, quiesce="require", freeze_timeout_s=4)
        with pytest.raises(CommandFailed) as failure:
            stack.call(command)
        assert (failure.value.code, failure.value.side_effects) == (ErrorCode.FROZEN_TOO_LONG, "none")
        assert taken_snapshots(stack) == []
        assert writes_on(guest)
        stack.storpool.sim.clear_faults()
        stack.storpool.sim.fault({"kind": "hang", "processed": True}, query="VolumesGroupSnapshot")
        taken = stack.call(command.model_copy(update={"quiesce": "try"}))
        assert (taken.consistency, len(taken_snapshots(stack))) == ("crash", 2)
        assert writes_on(guest)


@pytest.mark.long
def test_a_guest_without_an_agent(stack: Stack) -> None:
    volume, path = connected(stack)
    with run_guest([path]) as guest:
        with pytest.raises(CommandFailed) as failure:
            stack.call(TakeVmSnapshot(volumes=[volume], vm=guest.uuid, quiesce="require"))
        assert (failure.value.code, failure.value.side_effects) == (ErrorCode.GUEST_AGENT_UNAVAILABLE, "none")
        taken = stack.call(TakeVmSnapshot(volumes=[volume], vm=guest.uuid, quiesce="try"))
        assert (taken.consistency, taken.frozen_ms) == ("crash", None)
        assert "agent" in (taken.not_frozen or "")


@pytest.mark.long
@pytest.mark.parametrize("step", ["freeze:done", "snapshot:begin", "snapshot:done"])
def test_frozen_guest_is_thawed_by_the_restarted_agent(stack: Stack, step: str) -> None:
    request_id, answers = uuid4(), list[TakenVmSnapshot]()
    with writing_guest(stack) as (guest, volumes):
        command = TakeVmSnapshot(volumes=volumes, vm=guest.uuid, quiesce="require", freeze_timeout_s=60)
        stack.agent.restart_to_crash_at(f"takeVMSnapshot/{step}")
        sender = threading.Thread(target=lambda: answers.append(stack.call(command, request_id=request_id)))
        sender.start()
        stack.agent.wait_crashed()
        assert is_frozen(guest)
        stack.agent.start()
        [thawed] = stack.agent.events("guest thawed")
        assert (thawed["vm"], thawed["held"]) == (guest.uuid, True)
        sender.join(TOOL_TIMEOUT_S)
        assert writes_on(guest)
    [taken] = answers
    assert taken.consistency == "file-system"
    assert taken_snapshots(stack) == sorted(one.snapshot for one in taken.snapshots)
    with devices(stack, taken.snapshots) as paths:
        assert [is_clean(path) for path in paths] == [True, True]
    known = stack.call(QueryCommand(id=request_id))
    assert (known.status.state, known.reply and known.reply["status"]) == ("finished", "success")


def is_frozen(guest: Guest) -> bool:
    """By its agent's word: while it is frozen it refuses whatever could write."""
    try:
        guest.domain.getTime()
    except Exception as error:  # noqa: BLE001 - libvirt's, read by its text
        return "frozen" in str(error)
    return False


def test_revert_vm_snapshot(stack: Stack) -> None:
    volumes, paths = zip(*(connected(stack) for _ in TARGETS), strict=True)
    with run_guest(paths) as guest:
        for target in TARGETS:
            guest.write(target, 0, 4, f"first-{target}")
        taken = stack.call(TakeVmSnapshot(volumes=list(volumes)))
        for target in TARGETS:
            guest.write(target, 2, 4, f"other-{target}")
        pairs = [VolumeAndSnapshot(volume=f"~{one.volume}", snapshot=f"~{one.snapshot}") for one in taken.snapshots]
        with pytest.raises(CommandFailed) as failure:
            stack.call(RevertVmSnapshot(disks=pairs, detach=True))
        assert (failure.value.code, failure.value.side_effects) == (ErrorCode.DISK_IN_USE_BY_VM, "none")
    for volume in volumes:
        stack.storpool.call("POST", f"VolumeUpdate/{volume}", {"iops": 1234})
    with pytest.raises(CommandFailed) as failure:
        stack.call(RevertVmSnapshot(disks=pairs))
    assert failure.value.code is ErrorCode.VOLUME_BUSY
    reverted = stack.call(RevertVmSnapshot(disks=pairs, detach=True))
    assert [(f"~{one.volume}", one.iops) for one in reverted.disks] == [(volume, 1234) for volume in volumes]
    back = [VolumeAndSnapshot(volume=f"~{one.volume}", snapshot=f"~{one.safety_snapshot}") for one in reverted.disks]
    assert checksums(stack, volumes, 0) == [pattern_checksum(0, 4, f"first-{target}") for target in TARGETS]
    stack.call(RevertVmSnapshot(disks=back, detach=True, safety_snapshots=False))
    assert checksums(stack, volumes, 2) == [pattern_checksum(2, 4, f"other-{target}") for target in TARGETS]


def checksums(stack: Stack, volumes: Sequence[str], offset_mib: int) -> list[str]:
    """As a guest that is started now reads the disks."""
    paths = [Path(stack.call(ConnectPhysicalDisk(volume=volume)).path) for volume in volumes]
    with run_guest(paths) as guest:
        return [guest.checksum(target, offset_mib, 4) for target in TARGETS]


@pytest.mark.long
def test_a_revert_that_storpool_breaks_off_is_finished_by_the_next(stack: Stack) -> None:
    volumes = [stack.create() for _ in TARGETS]
    taken = stack.call(TakeVmSnapshot(volumes=volumes))
    pairs = [VolumeAndSnapshot(volume=f"~{one.volume}", snapshot=f"~{one.snapshot}") for one in taken.snapshots]
    stack.storpool.sim.fault({"kind": "busy"}, skip=1, query="VolumeRevert")
    with pytest.raises(CommandFailed) as failure:
        stack.call(RevertVmSnapshot(disks=pairs))
    assert (failure.value.code, failure.value.side_effects) == (ErrorCode.REVERT_INCOMPLETE, "partial")
    assert (failure.value.facts["reverted"], failure.value.facts["left"]) == ([volumes[0][1:]], [volumes[1][1:]])
    assert len(stack.call(RevertVmSnapshot(disks=pairs)).disks) == 2


def test_delete_vm_snapshot(stack: Stack) -> None:
    taken = stack.call(TakeVmSnapshot(volumes=[stack.create() for _ in TARGETS]))
    first, second = (f"~{one.snapshot}" for one in taken.snapshots)
    stack.call(ConnectPhysicalDisk(snapshot=first))
    with pytest.raises(CommandFailed) as failure:
        stack.call(DeleteVmSnapshot(snapshots=[first, second]))
    assert failure.value.code is ErrorCode.DELETE_INCOMPLETE
    assert (failure.value.facts["left"], failure.value.facts["deleted"]) == ([first], [second])
    stack.call(DisconnectPhysicalDisk(snapshot=first))
    gone = stack.call(DeleteVmSnapshot(snapshots=[first, second]))
    assert (gone.deleted, gone.missing, taken_snapshots(stack)) == ([first], [second], [])


def test_set_disk_qos(stack: Stack) -> None:
    """What libvirt then says of the running machine and of its configuration."""
    volume, path = connected(stack)
    with run_guest([path], persistent=True) as guest:
        stack.call(SetDiskQos(vm=guest.name, volume=volume, iotune=IoTune(read_iops_sec=500, total_bytes_sec=MIB)))
        qos = stack.call(SetDiskQos(vm=guest.uuid, volume=volume, iotune=IoTune(write_iops_sec=300)))
        wanted: dict[str, Any] = {
            "total_bytes_sec": MIB,
            "read_bytes_sec": 0,
            "write_bytes_sec": 0,
            "total_iops_sec": 0,
            "read_iops_sec": 500,
            "write_iops_sec": 300,
        }
        assert qos.model_dump(include=set(wanted)) == wanted
        assert (qos.live, qos.persistent, qos.target) == (True, True, "vda")
        for inactive in (False, True):
            assert wanted.items() <= guest.limits("vda", inactive=inactive).items()
        with pytest.raises(CommandFailed) as failure:
            stack.call(SetDiskQos(vm=guest.uuid, volume=volume, iotune=IoTune(total_iops_sec=5)))
        assert (failure.value.code, failure.value.side_effects) == (ErrorCode.INVALID_COMMAND, "none")
        assert wanted.items() <= guest.limits("vda").items()
