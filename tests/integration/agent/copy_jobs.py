# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One job of each kind, with all that it needs made beforehand, and what has to be there when it has succeeded."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from integration.agent.copies import Depot, block_hash, disk, full_disk
from storpool_commands.copies import (
    BackupSnapshot,
    CopyVolumeToSecondary,
    CreateTemplateFromSnapshot,
    CreateTemplateFromVolume,
    DownloadTemplate,
    DownloadVolume,
    MigrateVolume,
)
from storpool_commands.envelope import Success
from storpool_commands.images import ImageFormat, StoredImage


@dataclass
class CopyJob:
    """A command, and the effect that it is to have, once."""

    depot: Depot
    command: Any
    data: bytes
    image: StoredImage | None = None
    """The file that is made."""
    makes: str | None = None
    """The field of the result that names the volume or snapshot that is made."""
    also: frozenset[str] = frozenset()
    """Other files that are made."""
    deletes: str | None = None
    """A volume that is deleted, or a file that is removed."""
    copied: Callable[[Any], Any] = field(default=lambda result: result)
    """The part of the result that tells of the copy."""

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        """What is there now is there before."""
        self.objects, self.files = set(self.depot.objects()), self.depot.names()

    def result_of(self, reply: dict[str, Any]) -> Any:
        """As the SDK gives it, of a job that has succeeded."""
        assert reply["status"] == "success", reply
        return Success.model_validate_json(json.dumps(reply)).result

    def assert_done_once(self, result: Any) -> None:
        """One effect, the right contents, and nothing besides."""
        made = {getattr(result, self.makes)} if self.makes else set[str]()
        gone = {self.deletes.removeprefix("~")} if self.deletes else set[str]()
        files = {self.image.path} if self.image else set[str]()
        assert set(self.depot.objects()) == (self.objects | made) - gone
        assert self.depot.names() == (self.files | files | self.also) - gone
        for global_id in made:
            assert self.depot.contents(global_id) == self.data
        if self.image is not None:
            assert self.depot.read(self.image.path, getattr(self.command, "format", "qcow2")) == self.data
        copied = self.copied(result)
        assert (copied.block_hash, copied.virtual_size_bytes) == (block_hash(self.data), len(self.data))

    def assert_not_done(self) -> None:
        """As if it had never been."""
        assert set(self.depot.objects()) == self.objects
        assert self.depot.names() == self.files


Make = Callable[..., CopyJob]
"""Given the depot and options of the command."""


def _data(options: dict[str, Any]) -> bytes:
    return full_disk() if options.get("bandwidth_bytes_s") else disk()


def backup(depot: Depot, *, target: StoredImage | None = None, **options: Any) -> CopyJob:
    data = _data(options)
    target = target or depot.target()
    return CopyJob(depot, BackupSnapshot(snapshot=depot.snapshot(data), target=target, **options), data, target)


def copy_volume(depot: Depot, **options: Any) -> CopyJob:
    data = _data(options)
    target = depot.target("raw")
    command = CopyVolumeToSecondary(volume=depot.volume(data), target=target, format="raw", **options)
    return CopyJob(depot, command, data, target)


def download_volume(depot: Depot, *, image_format: ImageFormat = "qcow2", **options: Any) -> CopyJob:
    data = _data(options)
    command = DownloadVolume(source=depot.image(data, image_format), template="dev", **options)
    return CopyJob(depot, command, data, makes="global_id")


def download_template(depot: Depot, **options: Any) -> CopyJob:
    data = _data(options)
    command = DownloadTemplate(source=depot.image(data, "qcow2"), template="dev", **options)
    return CopyJob(depot, command, data, makes="global_id")


def template_from_volume(depot: Depot, **options: Any) -> CopyJob:
    data = _data(options)
    target = depot.target()
    command = CreateTemplateFromVolume(volume=depot.volume(data), target=target, **options)
    return _template(depot, command, data, target)


def template_from_snapshot(depot: Depot, **options: Any) -> CopyJob:
    data = _data(options)
    target = depot.target()
    command = CreateTemplateFromSnapshot(snapshot=depot.snapshot(data), target=target, **options)
    return _template(depot, command, data, target)


def template_from_backup(depot: Depot, **options: Any) -> CopyJob:
    data = _data(options)
    target = depot.target()
    source = depot.image(data, "qcow2")
    command = CreateTemplateFromSnapshot(source=source, template="dev", target=target, **options)
    return _template(depot, command, data, target)


def move_to_file(depot: Depot, **options: Any) -> CopyJob:
    data = _data(options)
    volume, target = depot.volume(data), depot.target("raw")
    command = MigrateVolume(volume=volume, target=target, format="raw", delete_source=True, **options)
    return CopyJob(depot, command, data, target, deletes=volume)


def move_from_file(depot: Depot, **options: Any) -> CopyJob:
    data = _data(options)
    image = depot.image(data)
    source = StoredImage(store=depot.store, path=image.path or "")
    command = MigrateVolume(source=source, source_format="raw", template="dev", delete_source=True, **options)
    return CopyJob(depot, command, data, makes="volume", deletes=source.path)


def _template(depot: Depot, command: Any, data: bytes, target: StoredImage) -> CopyJob:
    properties = frozenset({f"{target.path.rpartition('/')[0]}/template.properties"})
    return CopyJob(depot, command, data, target, "global_id", properties, copied=lambda result: result.file)
