# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of the functionality table: templates cached at StorPool, volumes made of them, templates made of volumes and
snapshots; by what is on their disks, and by a machine that boots."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from block_hash_reference import block_hash
from guest import KERNEL_FILE, Disk, Guest, bootable_disk, pattern_checksum
from image_server import body
from integration.agent.copy_lab import MIB, SIZE, CopyLab, Store, contents, packed
from storpool_commands.client import CommandFailed
from storpool_commands.copies import (
    BackupSnapshot,
    CreateTemplateFromSnapshot,
    CreateTemplateFromVolume,
    DownloadTemplate,
    StoredCopy,
)
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk
from storpool_commands.errors import ErrorCode
from storpool_commands.images import ImageSource
from storpool_commands.snapshots import DeleteSnapshot
from storpool_commands.volumes import CreateVolumeFromTemplate

FREE_MIB = 16
"""From here on a boot disk has nothing on it."""
ROOT_BYTES = 48 * MIB


@pytest.fixture(scope="module")
def root(shared_lab: CopyLab) -> Iterator[str]:
    """A ROOT volume made from a template that was downloaded; it stays attached for its machine."""
    shared_lab.nfs.put("template/tmpl/1/200/boot.qcow2", bootable_disk().read_bytes(), "qcow2")
    source = shared_lab.nfs.source("template/tmpl/1/200/boot.qcow2", "qcow2")
    template = shared_lab.stack.call(DownloadTemplate(source=source, template="dev", uuid="template-200"))
    made = shared_lab.stack.call(
        CreateVolumeFromTemplate(snapshot=f"~{template.global_id}", size_bytes=ROOT_BYTES, template="dev")
    )
    shared_lab.stack.call(ConnectPhysicalDisk(volume=f"~{made.global_id}"))
    yield f"~{made.global_id}"
    shared_lab.stack.call(DisconnectPhysicalDisk(volume=f"~{made.global_id}"))


@pytest.fixture(scope="module")
def booted(shared_lab: CopyLab, root: str) -> Iterator[Guest]:
    with Guest([Disk(shared_lab.stack.link(root), "vda", serial="root")], boot_from="vda") as running:
        yield running


def test_create_root_volume_from_template(lab: CopyLab, root: str, booted: Guest) -> None:
    """The machine boots from it. Another volume of that template is made without copying anything."""
    assert f"BOOT_IMAGE={KERNEL_FILE} " in booted.kernel_arguments()
    assert booted.disks()["vda"].size_bytes == ROOT_BYTES
    [volume] = lab.stack.storpool.call("GET", f"Volume/{root}")
    second = lab.stack.call(CreateVolumeFromTemplate(snapshot=volume["parentName"], template="dev"))
    assert lab.read(volume=f"~{second.global_id}") == bootable_disk().read_bytes()


def test_create_template_from_root_volume(lab: CopyLab, root: str, booted: Guest) -> None:
    """While its machine writes to it: the template, and volumes made of it, are the volume at one moment."""
    booted.write("vda", FREE_MIB, 4, "before")
    target = lab.nfs.image("template/tmpl/1/201/made.qcow2")
    command = CreateTemplateFromVolume(
        volume=root, target=target, uuid="template-201", unique_name="made-of-root", bandwidth_bytes_s=16 * MIB
    )
    making = lab.begin(command)
    for number in count():
        booted.write("vda", FREE_MIB + 8, 4, f"meanwhile-{number}")
        if making.reply.done():
            break
    made = making.result()
    booted.write("vda", FREE_MIB, 4, "after")
    assert (made.volume, made.size_bytes, made.tags["cs"], made.tags["uuid"]) == (
        root[1:],
        ROOT_BYTES,
        "template",
        "template-201",
    )
    template = assert_template_on_secondary(lab.nfs, made.file, unique_name="made-of-root")
    next_root = lab.stack.call(CreateVolumeFromTemplate(snapshot=f"~{made.global_id}", template="dev"))
    assert lab.read(volume=f"~{next_root.global_id}") == template
    assert template[: FREE_MIB * MIB] == bootable_disk().read_bytes()[: FREE_MIB * MIB]
    assert checksum(template, FREE_MIB, 4) == pattern_checksum(FREE_MIB, 4, "before")
    assert booted.checksum("vda", FREE_MIB, 4) == pattern_checksum(FREE_MIB, 4, "after")


def test_cache_template_from_nfs(lab: CopyLab) -> None:
    data = contents("debian")
    file = lab.nfs.put("template/tmpl/1/210/debian.qcow2", data, "qcow2")
    before = sha256(file.read_bytes()).digest()
    source = lab.nfs.source("template/tmpl/1/210/debian.qcow2", "qcow2", block_hash=block_hash(data))
    cached = lab.stack.call(DownloadTemplate(source=source, template="dev", uuid="t-210", name="debian-12"))
    assert (cached.size_bytes, cached.virtual_size_bytes, cached.block_hash) == (SIZE, SIZE, block_hash(data))
    assert (cached.name, cached.tags["cs"], cached.tags["uuid"], cached.copies) == ("debian-12", "template", "t-210", 1)
    assert lab.read(snapshot=f"~{cached.global_id}") == data
    assert sha256(file.read_bytes()).digest() == before


def test_cache_template_from_the_web(lab: CopyLab) -> None:
    data = contents("fedora")
    file = packed(data)
    url = lab.web.serve("/fedora.raw.gz", body(file))
    checksum_of_file = f"sha256:{sha256(file).hexdigest()}"
    source = ImageSource(url=url, format="raw", compression="gzip", checksum=checksum_of_file)
    cached = lab.stack.call(DownloadTemplate(source=source, template="dev"))
    assert (cached.size_bytes, cached.block_hash) == (SIZE, block_hash(data))
    assert lab.read(snapshot=f"~{cached.global_id}") == data


def test_a_template_that_is_another_by_now_is_not_cached(lab: CopyLab) -> None:
    before = lab.volumes(), lab.snapshots()
    url = lab.web.serve("/changed.raw.gz", body(packed(contents("changed"))))
    other = f"sha256:{sha256(packed(contents('expected'))).hexdigest()}"
    source = ImageSource(url=url, format="raw", compression="gzip", checksum=other)
    with pytest.raises(CommandFailed) as failure:
        lab.stack.call(DownloadTemplate(source=source, template="dev"))
    assert (failure.value.code, failure.value.side_effects) == (ErrorCode.CHECKSUM_MISMATCH, "none")
    assert (lab.volumes(), lab.snapshots()) == before


def test_cache_template_from_a_file_of_the_host(lab: CopyLab) -> None:
    data = contents("alpine")
    lab.local.put("alpine.raw", data)
    cached = lab.stack.call(DownloadTemplate(source=lab.local.source("alpine.raw", "raw"), template="dev"))
    assert cached.block_hash == block_hash(data)
    assert lab.read(snapshot=f"~{cached.global_id}") == data


def test_cache_template_of_a_file_that_ends_within_a_sector(lab: CopyLab) -> None:
    """The sector is filled up with zeroes."""
    data = contents("odd") + b"the end"
    (lab.local.files / "odd.raw").write_bytes(data)
    cached = lab.stack.call(DownloadTemplate(source=lab.local.source("odd.raw", "raw"), template="dev"))
    assert cached.size_bytes == SIZE + 512
    assert lab.read(snapshot=f"~{cached.global_id}") == data.ljust(SIZE + 512, b"\0")


def test_create_template_from_snapshot_that_only_storpool_has(lab: CopyLab) -> None:
    """With sp.bypass.secondary.storage: StorPool's snapshot becomes a file. The template outlives the snapshot."""
    data = contents("bypass")
    snapshot = lab.snapshot(data)
    target = lab.nfs.image("template/tmpl/1/220/t.qcow2")
    made = lab.stack.call(CreateTemplateFromSnapshot(snapshot=snapshot, target=target, uuid="template-220"))
    assert (made.snapshot, made.tags["cs"], made.tags["uuid"]) == (snapshot[1:], "template", "template-220")
    assert assert_template_on_secondary(lab.nfs, made.file, unique_name="t.qcow2") == data
    lab.stack.call(DeleteSnapshot(snapshot=snapshot))
    volume = lab.stack.call(CreateVolumeFromTemplate(snapshot=f"~{made.global_id}", template="dev"))
    assert lab.read(volume=f"~{volume.global_id}") == data


def test_create_template_from_snapshot_that_is_on_secondary(lab: CopyLab) -> None:
    """Without the bypass: the backup is all that is left of the snapshot."""
    data = contents("backup")
    snapshot = lab.snapshot(data)
    backup = lab.stack.call(BackupSnapshot(snapshot=snapshot, target=lab.nfs.image("snapshots/1/s"), format="raw"))
    lab.stack.call(DeleteSnapshot(snapshot=snapshot))
    source = lab.nfs.source("snapshots/1/s", "raw", block_hash=backup.block_hash)
    target = lab.nfs.image("template/tmpl/1/221/t.qcow2")
    made = lab.stack.call(CreateTemplateFromSnapshot(source=source, template="dev", target=target, compress=True))
    assert (made.snapshot, made.size_bytes) == (None, SIZE)
    assert assert_template_on_secondary(lab.nfs, made.file, unique_name="t.qcow2") == data
    assert lab.read(snapshot=f"~{made.global_id}") == data


def test_create_template_from_snapshot_without_a_file(lab: CopyLab) -> None:
    data = contents("storpool alone")
    before = lab.nfs.names() | lab.local.names()
    made = lab.stack.call(CreateTemplateFromSnapshot(snapshot=lab.snapshot(data), backup=False, name="alone"))
    assert (made.file, made.name) == (None, "alone")
    assert lab.read(snapshot=f"~{made.global_id}") == data
    assert lab.nfs.names() | lab.local.names() == before


def test_create_template_from_volume_without_a_file(lab: CopyLab) -> None:
    data = contents("volume alone")
    made = lab.stack.call(CreateTemplateFromVolume(volume=lab.volume(data), backup=False))
    assert made.file is None
    assert lab.read(snapshot=f"~{made.global_id}") == data


def assert_template_on_secondary(store: Store, file: StoredCopy | None, *, unique_name: str) -> bytes:
    """The file is what the reply says, and template.properties says the same; what is on its disk."""
    assert file is not None
    place = store.files / file.path
    disk = store.disk(file.path, "qcow2")
    assert (file.format, file.file_size_bytes, file.virtual_size_bytes) == ("qcow2", place.stat().st_size, len(disk))
    assert file.block_hash == block_hash(disk)
    assert place.stat().st_mode & 0o444 == 0o444
    properties = read_properties(place.parent / "template.properties")
    assert properties == {
        "id": "1",
        "public": "true",
        "uniquename": unique_name,
        "filename": place.name,
        "size": str(file.file_size_bytes),
        "virtualsize": str(len(disk)),
        "qcow2": "true",
        "qcow2.filename": place.name,
        "qcow2.size": str(file.file_size_bytes),
        "qcow2.virtualsize": str(len(disk)),
    }
    return disk


def read_properties(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def checksum(data: bytes, offset_mib: int, count_mib: int) -> str:
    return sha256(data[offset_mib * MIB : (offset_mib + count_mib) * MIB]).hexdigest()
