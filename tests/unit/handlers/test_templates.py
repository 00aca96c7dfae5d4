# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Templates of volumes and snapshots: at StorPool, and with a target also a file that CloudStack finds."""

from pathlib import PurePosixPath

import pytest

from block_hash_reference import block_hash
from copy_requests import Maker
from copy_scene import CONTENTS, SIZE, SOURCE, STORE, TARGET, Scene
from storpool_agent.errors import CopyFailed
from storpool_commands.catalogue import Command
from storpool_commands.copies import CreateTemplateFromSnapshot, CreateTemplateFromVolume
from storpool_commands.errors import ErrorCode
from storpool_commands.images import StoredImage
from storpool_commands.labels import KIND, OPERATION


def of_volume(scene: Scene) -> Command:
    volume = str(scene.volume().reference)
    return CreateTemplateFromVolume(volume=volume, target=TARGET, name="t-1", unique_name="201-debian")


def of_snapshot(scene: Scene) -> Command:
    snapshot = str(scene.volume(snapshot=True).reference)
    return CreateTemplateFromSnapshot(snapshot=snapshot, target=TARGET, name="t-1", unique_name="201-debian")


def of_backup(scene: Scene) -> Command:
    scene.file()
    return CreateTemplateFromSnapshot(
        source=SOURCE, template="dev", target=TARGET, name="t-1", unique_name="201-debian"
    )


ALL = pytest.mark.parametrize("make", [of_volume, of_snapshot, of_backup])

PROPERTIES = f"""\
id=1
public=true
uniquename=201-debian
filename=disk.img
size={SIZE}
virtualsize={SIZE}
qcow2=true
qcow2.filename=disk.img
qcow2.size={SIZE}
qcow2.virtualsize={SIZE}
"""


@ALL
def test_a_template_is_a_snapshot_a_file_and_its_description(scene: Scene, make: Maker) -> None:
    before = set(scene.prepare(make).fakes.storpool.volumes)
    made = scene.succeed()
    (new,) = set(scene.fakes.storpool.volumes) - before
    template = scene.fakes.storpool.volumes[new]
    assert (template.global_id, template.name, template.snapshot) == (made.global_id, "t-1", True)
    assert template.tags == {KIND: "template", OPERATION: str(scene.request.id)}
    assert scene.contents(new) == CONTENTS
    assert scene.at().read_bytes() == CONTENTS
    assert scene.at().with_name("template.properties").read_text() == PROPERTIES
    assert (made.file.block_hash, made.file.path) == (block_hash(CONTENTS), TARGET.path)
    assert scene.fakes.storpool.attached == {}


@pytest.mark.parametrize("make", [of_volume, of_snapshot])
def test_a_template_without_a_file_copies_nothing(scene: Scene, make: Maker) -> None:
    def unsaved(scene: Scene) -> Command:
        return make(scene).model_copy(update={"target": None, "backup": False, "unique_name": None})

    made = scene.prepare(unsaved).succeed()
    assert (made.file, scene.fakes.images.zeroed, scene.fakes.storpool.attached) == (None, [], {})
    assert scene.contents(made.global_id) == CONTENTS
    assert "attach" not in scene.fakes.storpool.calls
    assert not scene.at().exists()


def test_a_template_outlives_the_snapshot_that_it_is_made_of(scene: Scene) -> None:
    (origin,) = scene.prepare(of_snapshot).fakes.storpool.volumes
    made = scene.succeed()
    assert made.snapshot == origin
    assert {origin, made.global_id} == set(scene.fakes.storpool.volumes)


def test_a_template_of_a_backup_names_no_snapshot(scene: Scene) -> None:
    assert scene.prepare(of_backup).succeed().snapshot is None


def test_at_the_top_of_a_store_the_description_is_beside_the_image(scene: Scene) -> None:
    def make(scene: Scene) -> Command:
        target = StoredImage(store=STORE, path="t.qcow2")
        return CreateTemplateFromVolume(volume=str(scene.volume().reference), target=target)

    scene.prepare(make).succeed()
    root = scene.fakes.secondary.files(STORE)
    assert {str(PurePosixPath(each.name)) for each in root.iterdir()} == {"t.qcow2", "template.properties"}
    assert "uniquename=t.qcow2\n" in (root / "template.properties").read_text()


@ALL
@pytest.mark.parametrize("call", ["convert", "block_hash"])
def test_when_the_file_cannot_be_written_there_is_no_template(scene: Scene, make: Maker, call: str) -> None:
    scene.prepare(make)
    scene.fakes.images.failing[call] = CopyFailed("it failed")
    scene.fail(ErrorCode.COPY_FAILED)


@ALL
def test_when_its_name_is_taken_there_is_no_template(scene: Scene, make: Maker) -> None:
    def beside(scene: Scene) -> Command:
        scene.fakes.storpool.disk(scene.fakes.storpool.add(SIZE, "t-1").global_id)
        return make(scene)

    scene.prepare(beside).fail(ErrorCode.NAME_TAKEN)


@ALL
def test_when_there_is_such_a_file_there_is_no_template(scene: Scene, make: Maker) -> None:
    def beside(scene: Scene) -> Command:
        scene.file(b"another's", TARGET)
        return make(scene)

    scene.prepare(beside).fail(ErrorCode.FILE_EXISTS)
    assert scene.at().read_bytes() == b"another's"
