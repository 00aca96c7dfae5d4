# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of the functionality table: volumes migrated within StorPool, and to and from files that no machine uses."""

import pytest

from block_hash_reference import block_hash
from integration.agent.copy_lab import SIZE, CopyLab, Store, contents
from storpool_commands.client import CommandFailed
from storpool_commands.copies import MigrateVolume
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk
from storpool_commands.errors import ErrorCode
from storpool_commands.images import ImageFormat

OTHER = "nvme"


@pytest.fixture(scope="module", autouse=True)
def _other_template(shared_lab: CopyLab) -> None:
    template = {"name": OTHER, "placeAll": "ssd", "replication": 3}
    shared_lab.stack.storpool.call("POST", "VolumeTemplateCreate", template)


@pytest.fixture(params=["nfs", "local"])
def store(lab: CopyLab, request: pytest.FixtureRequest) -> Store:
    return lab.nfs if request.param == "nfs" else lab.local


def template_of(lab: CopyLab, volume: str) -> str:
    [found] = lab.stack.storpool.call("GET", f"Volume/{volume}")
    return str(found["templateName"])


def test_migrate_volume_in_place(lab: CopyLab) -> None:
    """StorPool moves the data of the same volume, which is in use meanwhile."""
    data = contents("in place")
    volume = lab.volume(data)
    device = lab.stack.call(ConnectPhysicalDisk(volume=volume)).real_device
    moved = lab.stack.call(MigrateVolume(volume=volume, template=OTHER))
    assert (moved.method, moved.volume, moved.size_bytes, moved.copies) == ("inPlace", volume[1:], SIZE, 0)
    assert template_of(lab, volume) == OTHER
    assert lab.stack.link(volume).resolve().name == device.rpartition("/")[2]
    lab.stack.call(DisconnectPhysicalDisk(volume=volume))
    assert lab.read(volume=volume) == data


@pytest.mark.parametrize("delete_source", [False, True])
def test_migrate_volume_to_a_new_one(lab: CopyLab, delete_source: bool) -> None:
    data = contents("base on")
    volume = lab.volume(data)
    command = MigrateVolume(
        volume=volume, template=OTHER, new_volume=True, uuid="moved", tags={"a": "b"}, delete_source=delete_source
    )
    moved = lab.stack.call(command)
    assert (moved.method, moved.source_deleted, moved.copies) == ("copyInStorPool", delete_source, 0)
    assert moved.volume != volume[1:]
    tags = lab.volumes()[str(moved.volume)]
    assert (tags["uuid"], tags["a"], template_of(lab, f"~{moved.volume}")) == ("moved", "b", OTHER)
    assert lab.read(volume=f"~{moved.volume}") == data
    assert (volume[1:] in lab.volumes()) is not delete_source


def test_a_volume_that_is_in_use_is_not_migrated_to_a_new_one(lab: CopyLab) -> None:
    """What is written meanwhile would be lost."""
    volume = lab.volume(contents("in use"))
    lab.stack.storpool.attach(volume[1:], client=2)
    before = lab.volumes()
    for command in (
        MigrateVolume(volume=volume, template=OTHER, new_volume=True),
        MigrateVolume(volume=volume, target=lab.nfs.image("in-use")),
    ):
        with pytest.raises(CommandFailed) as failure:
            lab.stack.call(command)
        assert (failure.value.code, failure.value.side_effects) == (ErrorCode.VOLUME_BUSY, "none")
    assert (lab.volumes(), "in-use" in lab.nfs.names()) == (before, False)
    lab.stack.storpool.detach(volume[1:], client=2)


@pytest.mark.parametrize(
    ("form", "delete_source"),
    [
        pytest.param("qcow2", True, id="a qcow2, and the volume is deleted"),
        pytest.param("raw", False, id="a raw file, and the volume stays"),
    ],
)
def test_migrate_volume_to_a_file(lab: CopyLab, store: Store, form: ImageFormat, delete_source: bool) -> None:
    data = contents("out")
    volume, path = lab.volume(data), f"moved/{form}"
    command = MigrateVolume(volume=volume, target=store.image(path), format=form, delete_source=delete_source)
    moved = lab.stack.call(command)
    assert (moved.method, moved.volume, moved.path) == ("offline", None, f"{store.url}/{path}")
    assert (moved.block_hash, moved.source_deleted, moved.copies) == (block_hash(data), delete_source, 1)
    assert store.disk(path, form) == data
    assert lab.stack.attachments(volume) == []
    assert (volume[1:] in lab.volumes()) is not delete_source


@pytest.mark.parametrize(
    ("form", "delete_source"),
    [
        pytest.param("qcow2", False, id="a qcow2 that stays"),
        pytest.param("raw", True, id="a raw file that is deleted"),
    ],
)
def test_migrate_volume_from_a_file(lab: CopyLab, store: Store, form: ImageFormat, delete_source: bool) -> None:
    data = contents("in")
    file = store.put(f"arriving/{form}", data, form)
    command = MigrateVolume(
        source=store.image(f"arriving/{form}"),
        source_format=form,
        template=OTHER,
        uuid="arrived",
        delete_source=delete_source,
    )
    moved = lab.stack.call(command)
    assert (moved.method, moved.size_bytes, moved.block_hash) == ("offline", SIZE, block_hash(data))
    assert (moved.source_deleted, moved.copies) == (delete_source, 1)
    assert lab.read(volume=f"~{moved.volume}") == data
    assert (lab.volumes()[str(moved.volume)]["uuid"], template_of(lab, f"~{moved.volume}")) == ("arrived", OTHER)
    assert file.exists() is not delete_source


def test_there_and_back_again_nothing_has_changed(lab: CopyLab) -> None:
    data = contents("round trip")
    volume = lab.volume(data)
    out = lab.stack.call(MigrateVolume(volume=volume, target=lab.nfs.image("round"), delete_source=True))
    back = lab.stack.call(
        MigrateVolume(source=lab.nfs.image("round"), source_format="qcow2", template="dev", delete_source=True)
    )
    assert out.block_hash == back.block_hash == block_hash(data)
    assert lab.read(volume=f"~{back.volume}") == data
    assert "round" not in lab.nfs.names()
