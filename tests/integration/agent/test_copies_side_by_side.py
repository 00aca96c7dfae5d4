# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs beside each other, and beside commands on what they copy."""

from pathlib import Path
from typing import Any

import pytest

from guest import Disk, SilentGuest, pattern
from integration.agent.copy_lab import MIB, CopyLab
from storpool_commands.client import CommandFailed
from storpool_commands.copies import BackupSnapshot, CopyVolumeToSecondary
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DisconnectPhysicalDisk,
    StorpoolResize,
)
from storpool_commands.errors import ErrorCode
from storpool_commands.snapshots import DeleteSnapshot, TakeSnapshot
from storpool_commands.wire import CommandModel

pytestmark = pytest.mark.long

SIZE = 8 * MIB
DATA = pattern(0, 8, "all of it")


def backup(lab: CopyLab, snapshot: str, path: str, mib_s: int, **further: str) -> BackupSnapshot:
    fields = {"snapshot": snapshot, "target": lab.nfs.image(path), "bandwidth_bytes_s": mib_s * MIB, **further}
    return BackupSnapshot.model_validate(fields)


def test_two_backups_of_one_snapshot_share_its_attachment_and_the_mount(lab: CopyLab) -> None:
    """Both last until the last of them ends, and no longer."""
    snapshot = lab.snapshot(DATA)
    mounts = len(lab.nas.mounts)
    slow = lab.begin(backup(lab, snapshot, "two.qcow2", 2))
    quick = lab.begin(backup(lab, snapshot, "two.raw", 8, format="raw"))
    lab.wait_until_copying(slow)
    lab.wait_until_copying(quick)
    assert lab.stack.attachments(snapshot) == [(1, "ro")]
    assert len(lab.mounted()) == 1
    first = quick.result()
    assert not slow.reply.done()
    assert lab.stack.attachments(snapshot) == [(1, "ro")]
    assert len(lab.mounted()) == 1
    second = slow.result()
    assert (lab.stack.attachments(snapshot), lab.mounted()) == ([], [])
    assert len(lab.nas.mounts) == mounts + 1
    assert first.block_hash == second.block_hash
    assert lab.nfs.disk("two.raw") == lab.nfs.disk("two.qcow2", "qcow2") == DATA


def test_a_snapshot_is_not_detached_or_deleted_under_the_job_that_copies_it(lab: CopyLab) -> None:
    snapshot = lab.snapshot(DATA)
    job = lab.begin(backup(lab, snapshot, "refused", 2))
    lab.wait_until_copying(job)
    commands: list[CommandModel[Any]] = [DisconnectPhysicalDisk(snapshot=snapshot), DeleteSnapshot(snapshot=snapshot)]
    for command in commands:
        with pytest.raises(CommandFailed) as failure:
            lab.stack.call(command)
        assert failure.value.code is ErrorCode.VOLUME_BUSY
        assert str(job.request_id) in str(failure.value.facts["holders"])
    assert not job.reply.done()
    job.result()
    assert lab.nfs.disk("refused", "qcow2") == DATA


def test_who_connects_a_snapshot_while_it_is_copied_keeps_it(lab: CopyLab) -> None:
    snapshot = lab.snapshot(DATA)
    job = lab.begin(backup(lab, snapshot, "kept", 2))
    lab.wait_until_copying(job)
    connected = lab.stack.call(ConnectPhysicalDisk(snapshot=snapshot))
    assert not job.reply.done()
    job.result()
    assert lab.stack.attachments(snapshot) == [(1, "ro")]
    assert Path(connected.path).read_bytes() == DATA
    assert lab.stack.call(DisconnectPhysicalDisk(snapshot=snapshot)).detached_now


def test_what_takes_moments_does_not_wait_for_a_copy_of_the_same_volume(lab: CopyLab) -> None:
    root, volume, other = lab.volume(size=4 * MIB), lab.volume(DATA), lab.volume(size=4 * MIB)
    path = Path(lab.stack.call(ConnectPhysicalDisk(volume=root)).path)
    with SilentGuest([Disk(path, "vda")], persistent=True) as machine:
        lab.stack.call(AttachDisk(vm=machine.uuid, volume=volume))
        command = CopyVolumeToSecondary(volume=volume, target=lab.nfs.image("beside"), bandwidth_bytes_s=MIB)
        job = lab.begin(command)
        lab.wait_until_copying(job)
        resized = lab.stack.call(StorpoolResize(volume=volume, new_size_bytes=12 * MIB))
        assert [(vm.vm, vm.size_bytes) for vm in resized.vms] == [(machine.uuid, 12 * MIB)]
        assert lab.stack.call(AttachDisk(vm=machine.uuid, volume=other)).live
        taken = lab.stack.call(TakeSnapshot(volume=volume))
        progress = lab.query(job).status.progress
        assert progress is not None
        assert progress.phase == "copy"
        copied = job.result()
    assert (copied.virtual_size_bytes, lab.nfs.disk("beside", "qcow2")) == (SIZE, DATA)
    assert lab.read(snapshot=f"~{taken.global_id}") == DATA.ljust(12 * MIB, b"\0")
    for each in (root, volume, other):
        assert lab.stack.call(DisconnectPhysicalDisk(volume=each)).detached_now
