# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of the functionality table: snapshots backed up and read back, volumes downloaded; and what every copy job tells
while it runs and after it has ended."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from block_hash_reference import block_hash
from guest import Disk, Guest, pattern, pattern_checksum
from integration.agent.copy_lab import MIB, SIZE, CopyLab, contents
from integration.agent.test_template_rows import checksum
from raw_client import raw_client
from storpool_commands.client import CommandFailed
from storpool_commands.control import JobProgress, QueryCommand
from storpool_commands.copies import BackupSnapshot, CopyVolumeToSecondary, DownloadVolume
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, DetachDisk
from storpool_commands.envelope import Accepted, Progress
from storpool_commands.errors import ErrorCode
from storpool_commands.images import ImageFormat
from storpool_commands.volumes import CreateVolumeFromSnapshot


@pytest.fixture(scope="module")
def guest(shared_lab: CopyLab) -> Iterator[Guest]:
    root = shared_lab.volume(size=16 * MIB)
    path = shared_lab.stack.call(ConnectPhysicalDisk(volume=root)).path
    with Guest([Disk(Path(path), "vda", serial="root")], persistent=True) as running:
        yield running


@pytest.mark.parametrize(
    ("form", "compress"),
    [
        pytest.param("raw", False, id="raw"),
        pytest.param("qcow2", False, id="qcow2"),
        pytest.param("qcow2", True, id="compressed qcow2"),
    ],
)
def test_back_up_volume_snapshot(lab: CopyLab, form: ImageFormat, compress: bool) -> None:
    data = contents("monday")
    snapshot = lab.snapshot(data)
    path = f"snapshots/2/{form}-{compress}"
    command = BackupSnapshot(snapshot=snapshot, target=lab.nfs.image(path), format=form, compress=compress)
    backup = lab.stack.call(command)
    assert (backup.snapshot, backup.virtual_size_bytes, backup.copies) == (snapshot[1:], SIZE, 1)
    assert backup.block_hash == block_hash(data)
    assert lab.nfs.disk(path, form) == data
    file = (lab.nfs.files / path).stat()
    assert file.st_size == backup.file_size_bytes
    assert file.st_blocks * 512 < (2 if compress else 8) * MIB, "zeroes take room"
    assert lab.read(snapshot=snapshot) == data


def test_a_backup_is_never_written_over(lab: CopyLab) -> None:
    (lab.nfs.files / "mine").write_text("somebody's")
    with pytest.raises(CommandFailed) as failure:
        lab.stack.call(BackupSnapshot(snapshot=lab.snapshot(contents("late")), target=lab.nfs.image("mine")))
    assert failure.value.code is ErrorCode.FILE_EXISTS
    assert (lab.nfs.files / "mine").read_text() == "somebody's"


def test_create_volume_from_snapshot_on_secondary(lab: CopyLab) -> None:
    """The snapshot is no longer at StorPool. The volume may be larger than it."""
    data = contents("tuesday")
    backup = lab.stack.call(BackupSnapshot(snapshot=lab.snapshot(data), target=lab.nfs.image("snapshots/3/t")))
    source = lab.nfs.source("snapshots/3/t", "qcow2", block_hash=backup.block_hash)
    command = DownloadVolume(source=source, template="dev", size_bytes=24 * MIB, uuid="volume-3", iops=100)
    volume = lab.stack.call(command)
    assert (volume.size_bytes, volume.virtual_size_bytes, volume.block_hash) == (24 * MIB, SIZE, block_hash(data))
    assert (volume.tags["cs"], volume.tags["uuid"]) == ("volume", "volume-3")
    [listed] = lab.stack.storpool.call("GET", f"Volume/~{volume.global_id}")
    assert (listed["iops"], listed["parentName"]) == (100, "")
    assert lab.read(volume=f"~{volume.global_id}") == data.ljust(24 * MIB, b"\0")


def test_a_backup_that_has_changed_becomes_no_volume(lab: CopyLab) -> None:
    backup = lab.stack.call(
        BackupSnapshot(snapshot=lab.snapshot(contents("whole")), target=lab.nfs.image("rotten"), format="raw")
    )
    with (lab.nfs.files / "rotten").open("r+b") as file:
        file.seek(10 * MIB)
        file.write(b"\0")
    before = lab.volumes()
    source = lab.nfs.source("rotten", "raw", block_hash=backup.block_hash)
    with pytest.raises(CommandFailed) as failure:
        lab.stack.call(DownloadVolume(source=source, template="dev"))
    assert (failure.value.code, failure.value.side_effects) == (ErrorCode.CHECKSUM_MISMATCH, "none")
    assert lab.volumes() == before


def test_create_volume_from_snapshot_at_storpool(lab: CopyLab) -> None:
    """Nothing is copied, and nothing attached for it."""
    data = contents("wednesday")
    snapshot = lab.snapshot(data)
    asked = len(lab.stack.storpool.sim.requests("VolumesReassignWait"))
    volume = lab.stack.call(CreateVolumeFromSnapshot(snapshot=snapshot))
    assert volume.parent == snapshot[1:]
    assert len(lab.stack.storpool.sim.requests("VolumesReassignWait")) == asked
    assert lab.read(volume=f"~{volume.global_id}") == data


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_download_volume(lab: CopyLab, guest: Guest, form: ImageFormat) -> None:
    """In use: the file is the disk at one moment, and the snapshot that it was read from is gone."""
    volume = lab.volume(size=SIZE)
    lab.stack.call(AttachDisk(vm=guest.uuid, volume=volume, serial=f"data-{form}"))
    disk = guest.wait_for_disk(f"data-{form}").name
    guest.write(disk, 4, 3, "before")
    guest.count_on(disk)
    guest.wait_for_counted(1)
    snapshots = lab.snapshots()
    copied = lab.stack.call(CopyVolumeToSecondary(volume=volume, target=lab.nfs.image(f"out/{form}"), format=form))
    last = guest.stop_counting()
    on_file = lab.nfs.disk(f"out/{form}", form)
    assert (copied.volume, copied.virtual_size_bytes) == (volume[1:], SIZE)
    assert copied.block_hash == block_hash(on_file)
    assert 1 <= int(on_file[:511]) <= last
    assert checksum(on_file, 4, 3) == pattern_checksum(4, 3, "before")
    assert lab.snapshots() == snapshots
    assert lab.stack.attachments(volume) == [(1, "rw")]
    lab.stack.call(DetachDisk(vm=guest.uuid, volume=volume))
    guest.wait_until_gone(f"data-{form}")


def test_the_same_request_again_has_the_same_answer(lab: CopyLab) -> None:
    """Byte for byte, and nothing is copied for it."""
    command = {
        "command": "backupSnapshot",
        "snapshot": lab.snapshot(contents("once")),
        "target": {"store": lab.nfs.url, "path": "once"},
    }
    with raw_client(lab.stack.amqp_url) as raw:
        request_id = raw.ask(command)
        raw.reply(request_id)
        (lab.nfs.files / "once").unlink()
        raw.ask(command, request_id=request_id)
        raw.settle()
        first, second = raw.replies(request_id)
    assert first.json["status"] == "success"
    assert second.body == first.body
    assert "once" not in lab.nfs.names()


def test_progress_is_told_while_a_copy_runs(lab: CopyLab) -> None:
    """To the sender, and to whoever asks by the control queue, which waits behind no copy."""
    snapshot = lab.snapshot(pattern(0, 40, "more than qemu-img has in flight"))
    command = BackupSnapshot(snapshot=snapshot, target=lab.nfs.image("slow"), format="raw", bandwidth_bytes_s=8 * MIB)
    request_id = uuid4()
    told: list[Accepted | Progress] = []
    asked: list[JobProgress] = []

    def listen(sign: Accepted | Progress) -> None:
        told.append(sign)
        status = lab.stack.management.control(QueryCommand(id=request_id), host=lab.stack.host).status
        if status.progress is not None:
            assert (status.state, status.attempts) == ("running", 1)
            asked.append(status.progress)

    backup = lab.stack.call(command, request_id=request_id, on_progress=listen)
    assert isinstance(told[0], Accepted)
    signs = [sign for sign in told if isinstance(sign, Progress)]
    copying = [sign.bytes_done for sign in signs if sign.phase == "copy" and sign.bytes_done]
    assert copying == sorted(copying)
    assert len(set(copying)) > 1
    totals = {sign.bytes_total for sign in signs if sign.phase == "copy" and sign.bytes_done}
    assert totals == {backup.virtual_size_bytes}
    assert any(one.phase == "copy" and one.bytes_done and one.rate_bytes_s for one in asked)
    assert lab.stack.management.control(QueryCommand(id=request_id), host=lab.stack.host).status.progress is None
