# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs: templates, backups, downloads, migrations; and their results.

All run on the host's bulk lane: nothing else waits for them. Each sends progress, can be cancelled (cancelCommand), and
is stopped when the request's deadline passes; then nothing temporary is left, and what it was making is removed.
"""

from typing import Literal, Self

from pydantic import model_validator

from storpool_commands.images import CopyOptions, ImageFormat, ImageSource, StoredImage
from storpool_commands.labels import Labels
from storpool_commands.references import ObjectRef
from storpool_commands.volumes import CreatedVolume, InPool, VolumeOptions
from storpool_commands.wire import (
    AnswerModel,
    ClusterId,
    CommandModel,
    Generation,
    Label,
    ObjectName,
    PoolName,
    SizeBytes,
    TemplateName,
    VmRef,
    WireModel,
)

TEMPLATE_PROPERTIES = "template.properties"
"""The file that describes a template to the management plane, beside the template's image."""


class Copied(AnswerModel):
    """What a copy has moved, and how often it was begun."""

    virtual_size_bytes: int
    """Of the disk that was copied."""
    block_hash: str | None
    """Of its contents, the same on both sides; docs/protocol.md says how to compute it. Null after a live migration,
    whose contents change, and when StorPool moved the data by itself."""
    copies: int
    """How often the copy was begun: more than once when the agent died meanwhile, since a copy begins from its start.
    0: the agent copied nothing."""


class StoredCopy(Copied):
    """An image file that was written, verified, and only then given its name."""

    store: str
    path: str
    format: ImageFormat
    file_size_bytes: int
    """The length of the file."""


class _ToFile(InPool, CopyOptions):
    target: StoredImage
    format: ImageFormat = "qcow2"
    """Of the file."""
    compress: bool = False
    """Compress the qcow2 (zstd): smaller, and several times slower."""

    @model_validator(mode="after")
    def _compressible(self) -> Self:
        if self.compress and self.format != "qcow2":
            raise ValueError("only a qcow2 is compressed")
        return self


class _FromImage(CopyOptions):
    source: ImageSource
    max_size_bytes: SizeBytes | None = None
    """Refuse an image whose disk is larger (`image-too-large`). Default: the limit of the host's settings alone."""


def _check_placed(template: str | None, pool: str | None) -> None:
    if template is None and pool is None:
        raise ValueError("give a template, or a pool that has one")


class DownloadedTemplate(Copied):
    """A template that is cached at StorPool, as a snapshot."""

    command: Literal["downloadTemplate"] = "downloadTemplate"
    global_id: str
    name: str
    """As StorPool lists it: `~<global id>` when it has no name of its own."""
    path: str
    """Where its device appears on a host that attaches it."""
    size_bytes: int
    template: str
    """Of StorPool, where it is placed."""
    tags: dict[str, str]


class DownloadTemplate(InPool, Labels, _FromImage, CommandModel[DownloadedTemplate]):
    """Cache a template at StorPool: a snapshot (tag `cs=template`) that volumes are made from without copying.

    There is no snapshot before the copy is verified.
    """

    command: Literal["downloadTemplate"] = "downloadTemplate"
    template: TemplateName | None = None
    """Of StorPool, where the snapshot is placed. Default: that of the pool."""
    name: ObjectName | None = None
    """Of the snapshot. Default: none; it is then known by its global id."""
    cluster_id: ClusterId | None = None
    """The cluster of a multi-cluster that it is to be made in. Default: the one that the API belongs to."""

    @model_validator(mode="after")
    def _placed(self) -> Self:
        _check_placed(self.template, self.pool)
        return self


class BackedUpSnapshot(StoredCopy):
    """A snapshot whose contents are on secondary storage."""

    command: Literal["backupSnapshot"] = "backupSnapshot"
    snapshot: str
    """The global id."""


class BackupSnapshot(_ToFile, CommandModel[BackedUpSnapshot]):
    """Copy a snapshot's contents to a file on secondary storage.

    The snapshot stays. A file that is there already is never overwritten (`file-exists`).
    """

    command: Literal["backupSnapshot"] = "backupSnapshot"
    snapshot: ObjectRef


class _NewTemplate(InPool, Labels, CopyOptions):
    target: StoredImage | None = None
    """The template's qcow2 file on secondary storage. `template.properties` is written beside it, so give each template
    a directory of its own."""
    backup: bool = True
    """`false`, and no target: nothing is written to secondary storage, the template is its snapshot at StorPool."""
    compress: bool = False
    """Compress the qcow2 (zstd): smaller, and several times slower."""
    name: ObjectName | None = None
    """Of the snapshot that the template is at StorPool. Default: none; it is then known by its global id."""
    unique_name: Label | None = None
    """What the management plane calls the template in `template.properties`. Default: the name of the file."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.backup != (self.target is not None):
            raise ValueError("give the target, or backup false")
        if self.target is None and (self.compress or self.unique_name is not None):
            raise ValueError("compress and uniqueName are about the target: without backup there is none")
        if self.target is not None and self.target.path.split("/")[-1] == TEMPLATE_PROPERTIES:
            raise ValueError(f"the image cannot be called {TEMPLATE_PROPERTIES}: that is written beside it")
        return self


class _MadeTemplate(AnswerModel):
    global_id: str
    """Of the snapshot (tag `cs=template`) that volumes are made from."""
    name: str
    """As StorPool lists it: `~<global id>` when it has no name of its own."""
    path: str
    """Where its device appears on a host that attaches it."""
    size_bytes: int
    tags: dict[str, str]
    file: StoredCopy | None
    """The file on secondary storage; null with `backup` false."""


class TemplateFromVolume(_MadeTemplate):
    """A template of a volume as it was at one moment."""

    command: Literal["createTemplateFromVolume"] = "createTemplateFromVolume"
    volume: str
    """The global id."""


class CreateTemplateFromVolume(_NewTemplate, CommandModel[TemplateFromVolume]):
    """Make a template from a volume, which may be in use: of a snapshot taken now."""

    command: Literal["createTemplateFromVolume"] = "createTemplateFromVolume"
    volume: ObjectRef


class TemplateFromSnapshot(_MadeTemplate):
    """A template of a snapshot."""

    command: Literal["createTemplateFromSnapshot"] = "createTemplateFromSnapshot"
    snapshot: str | None
    """The global id; null when the snapshot was only on secondary storage."""


class CreateTemplateFromSnapshot(_NewTemplate, CommandModel[TemplateFromSnapshot]):
    """Make a template from a snapshot at StorPool, or from a backup of one on secondary storage."""

    command: Literal["createTemplateFromSnapshot"] = "createTemplateFromSnapshot"
    snapshot: ObjectRef | None = None
    source: ImageSource | None = None
    """The backup, when StorPool no longer has the snapshot."""
    template: TemplateName | None = None
    """Of StorPool, for what is made from a backup. Default: that of the pool."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.snapshot is None) == (self.source is None):
            raise ValueError("give either snapshot or source")
        if self.source is not None:
            _check_placed(self.template, self.pool)
        elif self.template is not None:
            raise ValueError("template goes with source: what is made from a snapshot is placed as that is")
        return self


class CopiedVolume(StoredCopy):
    """A volume's contents in a file, as they were at one moment."""

    command: Literal["copyVolumeToSecondary"] = "copyVolumeToSecondary"
    volume: str
    """The global id."""


class CopyVolumeToSecondary(_ToFile, CommandModel[CopiedVolume]):
    """Copy a volume to a file on secondary storage. It may be in use: a snapshot of it is copied, and then deleted."""

    command: Literal["copyVolumeToSecondary"] = "copyVolumeToSecondary"
    volume: ObjectRef


class DownloadedVolume(CreatedVolume, Copied):
    """A volume with the contents of an image."""

    command: Literal["downloadVolume"] = "downloadVolume"  # type: ignore[assignment]


class DownloadVolume(VolumeOptions, _FromImage, CommandModel[DownloadedVolume]):
    """Make a volume with the contents of an image.

    Until they are verified it carries the tag `sp-writing`, and no host attaches it (`volume-incomplete`).
    """

    command: Literal["downloadVolume"] = "downloadVolume"
    size_bytes: SizeBytes | None = None
    """Default: the image's, in whole sectors. A smaller one is refused (`would-shrink`)."""

    @model_validator(mode="after")
    def _placed(self) -> Self:
        _check_placed(self.template, self.pool)
        return self


class MigratedVolume(Copied):
    """A volume that has moved."""

    command: Literal["migrateVolume"] = "migrateVolume"
    method: Literal["inPlace", "copyInStorPool", "offline", "live"]
    """`inPlace`: StorPool moves the data of the same volume by itself. `copyInStorPool`: a new volume of the same
    cluster. `offline`: copied while no machine used it. `live`: mirrored while its machine ran."""
    volume: str | None
    """The global id of the volume that has the contents now; null when they are in a file."""
    path: str
    """Where the contents are: the volume's device, or the file."""
    size_bytes: int
    source_deleted: bool


class _Ways(WireModel):
    volume: ObjectRef | None = None
    """At StorPool; or give `source`."""
    source: StoredImage | None = None
    """A file; or give `volume`."""
    source_format: ImageFormat | None = None
    """Of the file."""
    target: StoredImage | None = None
    """Move to this file. Without it: to StorPool."""
    format: ImageFormat = "qcow2"
    """Of the target."""
    to_pool: PoolName | None = None
    """The storage pool to move to. Default: the one that it is in (`pool`)."""
    template: TemplateName | None = None
    """The StorPool template to move to. Default: that of `toPool`."""

    @model_validator(mode="after")
    def _from_one_to_another(self) -> Self:
        if (self.volume is None) == (self.source is None):
            raise ValueError("give either volume or source")
        if (self.source is None) != (self.source_format is None):
            raise ValueError("source and sourceFormat belong together")
        if self.source is not None and self.target is not None:
            raise ValueError("from a file to a file: that is no volume of StorPool's")
        if self.target is not None and (self.template is not None or self.to_pool is not None):
            raise ValueError("give either the target, a file, or toPool and template")
        if self.target is None and self.format != "qcow2":
            raise ValueError("format is that of the target, which is missing")
        return self


class MigrateVolume(InPool, Labels, CopyOptions, _Ways, CommandModel[MigratedVolume]):
    """Move a volume to other storage: to another StorPool pool or template, from StorPool to a file, or from a file.

    With `vm`, whose disk it is, the machine runs on meanwhile (libvirt's block copy); without, no machine may use it.
    Name and labels are for a volume that is made.
    """

    command: Literal["migrateVolume"] = "migrateVolume"
    new_volume: bool = False
    """From StorPool to StorPool: make a new volume (baseOn) instead of having the same one moved in place."""
    name: ObjectName | None = None
    """Of a volume that is made. Default: none; it is then known by its global id."""
    vm: VmRef | None = None
    """The machine that has the volume, or the file, as a disk."""
    delete_source: bool = False
    """Delete the source when the contents have moved. Default: it stays, attached nowhere."""
    generation: Generation | None = None

    @model_validator(mode="after")
    def _moved(self) -> Self:
        if self.target is None and self.template is None and self.to_pool is None:
            if self.volume is not None:
                raise ValueError("give target, toPool or template: where it is to be moved")
            _check_placed(self.template, self.pool)
        if self.new_volume and (self.source is not None or self.target is not None or self.vm is not None):
            raise ValueError("newVolume goes with a volume that no machine uses, and that stays at StorPool")
        if self.target is not None and (self.name is not None or self.tags or self._named()):
            raise ValueError("name and labels are for a volume: with target none is made")
        return self
