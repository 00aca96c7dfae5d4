# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What each copy job is asked for, in a scene that has what it needs."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial

from block_hash_reference import block_hash
from copy_scene import CONTENTS, FILE, SIZE, SOURCE, TARGET, URL, Scene
from storpool_commands.catalogue import Command
from storpool_commands.copies import (
    BackupSnapshot,
    CopyVolumeToSecondary,
    CreateTemplateFromSnapshot,
    CreateTemplateFromVolume,
    DownloadTemplate,
    DownloadVolume,
    MigrateVolume,
)
from storpool_commands.images import ImageSource

Maker = Callable[[Scene], Command]


def _backup(scene: Scene) -> Command:
    return BackupSnapshot(snapshot=str(scene.volume(snapshot=True).reference), target=TARGET, format="raw")


def _copy_volume(scene: Scene) -> Command:
    return CopyVolumeToSecondary(volume=str(scene.volume().reference), target=TARGET)


def _download_template(scene: Scene) -> Command:
    scene.file()
    return DownloadTemplate(source=SOURCE, template="dev", name="debian-12")


def _download_volume(scene: Scene) -> Command:
    scene.file()
    source = SOURCE.model_copy(update={"checksum": f"sha256:{hashlib.sha256(CONTENTS).hexdigest()}"})
    return DownloadVolume(source=source, template="dev", name="disk-1", size_bytes=2 * SIZE)


def _download_from_the_web(scene: Scene) -> Command:
    scene.fakes.images.web[URL] = CONTENTS
    return DownloadVolume(
        source=ImageSource(url=URL, format="raw", block_hash=block_hash(CONTENTS)), template="dev", name="disk-1"
    )


def _template_of_volume(scene: Scene) -> Command:
    return CreateTemplateFromVolume(volume=str(scene.volume().reference), target=TARGET, name="t-1")


def _template_at_storpool(scene: Scene) -> Command:
    return CreateTemplateFromVolume(volume=str(scene.volume().reference), backup=False)


def _template_of_snapshot(scene: Scene) -> Command:
    snapshot = str(scene.volume(snapshot=True).reference)
    return CreateTemplateFromSnapshot(snapshot=snapshot, target=TARGET, name="t-1")


def _template_of_backup(scene: Scene) -> Command:
    scene.file()
    return CreateTemplateFromSnapshot(source=SOURCE, template="dev", target=TARGET, name="t-1")


def _in_place(scene: Scene) -> Command:
    scene.fakes.storpool.template_names.add("other")
    return MigrateVolume(volume=str(scene.volume().reference), template="other")


def _within(scene: Scene, *, delete: bool) -> Command:
    volume = str(scene.volume().reference)
    return MigrateVolume(volume=volume, template="dev", new_volume=True, name="new", delete_source=delete)


def _out(scene: Scene, *, delete: bool) -> Command:
    return MigrateVolume(volume=str(scene.volume().reference), target=TARGET, delete_source=delete)


def _in(scene: Scene, *, delete: bool) -> Command:
    scene.file()
    return MigrateVolume(source=FILE, source_format="raw", template="dev", name="new", delete_source=delete)


def _live_out(scene: Scene, *, delete: bool) -> Command:
    volume = scene.volume()
    machine = scene.machine(volume=volume)
    return MigrateVolume(volume=str(volume.reference), target=TARGET, vm=machine.uuid, delete_source=delete)


def _live_in(scene: Scene, *, delete: bool) -> Command:
    machine = scene.machine(str(scene.file()))
    return MigrateVolume(
        source=FILE, source_format="raw", template="dev", vm=machine.uuid, name="new", delete_source=delete
    )


SCENES: Mapping[str, Maker] = {
    "backupSnapshot": _backup,
    "copyVolumeToSecondary": _copy_volume,
    "downloadTemplate": _download_template,
    "downloadVolume": _download_volume,
    "downloadVolume, web": _download_from_the_web,
    "createTemplateFromVolume": _template_of_volume,
    "createTemplateFromVolume, no file": _template_at_storpool,
    "createTemplateFromSnapshot": _template_of_snapshot,
    "createTemplateFromSnapshot, backup": _template_of_backup,
    "migrateVolume, in place": _in_place,
    **{
        f"migrateVolume, {name}{', delete' if delete else ''}": partial(make, delete=delete)
        for name, make in {
            "new volume": _within,
            "out": _out,
            "in": _in,
            "live out": _live_out,
            "live in": _live_in,
        }.items()
        for delete in (False, True)
    },
}
"""What each copy job is asked for, by a phrase."""
