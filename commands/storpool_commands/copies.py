# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs: templates, backups, downloads, migrations; and their results.

All run on the host's bulk lane: nothing else waits for them. Each can be cancelled (cancelCommand), sends progress,
and is stopped at the request's deadline; then nothing temporary is left, and what it was making is removed.
"""

from typing import Literal, Self

from pydantic import model_validator

from storpool_commands.disks import Generation
from storpool_commands.images import CopyOptions, ImageFormat, ImageSource, StoredImage
from storpool_commands.labels import Labels
from storpool_commands.references import ObjectRef
from storpool_commands.volumes import CreatedVolume, InPool
from storpool_commands.wire import (
    AnswerModel,
    ClusterId,
    CommandModel,
    Label,
    Limit,
    ObjectName,
    PoolName,
    SizeBytes,
    TemplateName,
    VmRef,
)


class Copied(AnswerModel):
    """What a copy has moved, and how often it was begun."""

    virtual_size_bytes: int
    """Of the disk that was copied."""
    block_hash: str | None
    """Of its contents, the same on both sides: see BlockHash. Null after a live migration, whose contents change."""
    copies: int
    """How often the copy was begun: more than once when the agent died meanwhile, since a copy begins from its start."""


class StoredCopy(Copied):
    """An image file that was written, verified, and only then given its name."""

    store: str
    path: str
    format: ImageFormat
    file_size_bytes: int
    """The length of the file."""


class DownloadedTemplate(Copied):
    """A template that is cached at StorPool, as a snapshot."""

    command: Literal["downloadTemplate"] = "downloadTemplate"
    global_id: str
    name: str
    path: str
    size_bytes: int
    template: str
    tags: dict[str, str]


class DownloadTemplate(InPool, Labels, CopyOptions, CommandModel[DownloadedTemplate]):
    """Cache a template at StorPool: a snapshot (tag `cs=template`) that volumes are made from without copying.

    There is no snapshot before the copy is verified.
    """

    command: Literal["downloadTemplate"] = "downloadTemplate"
    source: ImageSource
    template: TemplateName | None = None
    """Of StorPool, for placement. Default: that of the pool."""
    name: ObjectName | None = None
    """Of the snapshot. Default: none; it is then known by its global id."""
    cluster_id: ClusterId | None = None
    max_size_bytes: SizeBytes | None = None
    """Refuse an image whose disk is larger. Default: the limit of the host's settings alone."""

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.template is None and self.pool is None:
            raise ValueError("give a template, or a pool that has one")
        return self


class BackedUpSnapshot(StoredCopy):
    """A snapshot whose contents are on secondary storage."""

    command: Literal["backupSnapshot"] = "backupSnapshot"
    snapshot: str


class BackupSnapshot(InPool, CopyOptions, CommandModel[BackedUpSnapshot]):
    """Copy a snapshot's contents to a file on secondary storage. The snapshot stays; a file that is there already is
    never overwritten (`file-exists`)."""

    command: Literal["backupSnapshot"] = "backupSnapshot"
    snapshot: ObjectRef
    target: StoredImage
    format: ImageFormat = "qcow2"
    compress: bool = False
    """Compress the qcow2 (zstd): smaller, and several times slower."""

    @model_validator(mode="after")
    def _compressible(self) -> Self:
        if self.compress and self.format != "qcow2":
            raise ValueError("only a qcow2 is compressed")
        return self


class _NewTemplate(InPool, Labels, CopyOptions):
    target: StoredImage | None = None
    """The template's qcow2 file on secondary storage; `template.properties` is written beside it."""
    backup: bool = True
    """`false`: nothing is written to secondary storage, the template is the snapshot at StorPool alone."""
    compress: bool = False
    """Compress the qcow2 (zstd): smaller, and several times slower."""
    name: ObjectName | None = None
    """Of the snapshot that the template is at StorPool. Default: none."""
    unique_name: Label | None = None
    """What the management plane calls the template in `template.properties`. Default: the name of the file."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.backup != (self.target is not None):
            raise ValueError("give the target, or backup false")
        return self


class _MadeTemplate(AnswerModel):
    global_id: str
    """Of the snapshot (tag `cs=template`) that volumes are made from."""
    name: str
    path: str
    size_bytes: int
    tags: dict[str, str]
    file: StoredCopy | None
    """The file on secondary storage; null with `backup` false."""


class TemplateFromVolume(_MadeTemplate):
    """A template of a volume as it was at one moment."""

    command: Literal["createTemplateFromVolume"] = "createTemplateFromVolume"
    volume: str


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
            raise ValueError("give snapshot or source")
        if self.source is not None and self.template is None and self.pool is None:
            raise ValueError("a source needs a template, or a pool that has one")
        if self.source is None and self.template is not None:
            raise ValueError("template goes with source: what is made from a snapshot is placed as that is")
        return self


class CopiedVolume(StoredCopy):
    """A volume's contents in a file, as they were at one moment."""

    command: Literal["copyVolumeToSecondary"] = "copyVolumeToSecondary"
    volume: str


class CopyVolumeToSecondary(InPool, CopyOptions, CommandModel[CopiedVolume]):
    """Copy a volume to a file on secondary storage. It may be in use: a snapshot of it is copied, and then deleted."""

    command: Literal["copyVolumeToSecondary"] = "copyVolumeToSecondary"
    volume: ObjectRef
    target: StoredImage
    format: ImageFormat = "qcow2"
    compress: bool = False
    """Compress the qcow2 (zstd): smaller, and several times slower."""

    @model_validator(mode="after")
    def _compressible(self) -> Self:
        if self.compress and self.format != "qcow2":
            raise ValueError("only a qcow2 is compressed")
        return self


class DownloadedVolume(CreatedVolume, Copied):
    """A volume with the contents of an image."""

    command: Literal["downloadVolume"] = "downloadVolume"  # type: ignore[assignment]


class DownloadVolume(InPool, Labels, CopyOptions, CommandModel[DownloadedVolume]):
    """Make a volume with the contents of an image file. Until they are verified no host attaches it."""

    command: Literal["downloadVolume"] = "downloadVolume"
    source: ImageSource
    size_bytes: SizeBytes | None = None
    """Default: the image's. A smaller one is refused (`would-shrink`)."""
    template: TemplateName | None = None
    """Default: that of the pool."""
    name: ObjectName | None = None
    iops: Limit | None = None
    bandwidth_kib_sec: Limit | None = None
    cluster_id: ClusterId | None = None
    max_size_bytes: SizeBytes | None = None
    """Refuse an image whose disk is larger. Default: the limit of the host's settings alone."""

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.template is None and self.pool is None:
            raise ValueError("give a template, or a pool that has one")
        if self.tier is not None and not (self.iops is None and self.bandwidth_kib_sec is None):
            raise ValueError("a tier sets the limits itself: give the tier or the limits")
        return self


class MigratedVolume(AnswerModel):
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
    virtual_size_bytes: int
    block_hash: str | None
    copies: int


class MigrateVolume(InPool, Labels, CopyOptions, CommandModel[MigratedVolume]):
    """Move a volume to other storage: to another StorPool pool or template, from StorPool to a file, or from a file.

    With `vm`, whose disk it is, its machine runs on meanwhile (libvirt's block copy); without, no machine may use it.
    """

    command: Literal["migrateVolume"] = "migrateVolume"
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
    new_volume: bool = False
    """From StorPool to StorPool: make a new volume (baseOn) instead of having the same one moved in place."""
    name: ObjectName | None = None
    """Of a volume that is made."""
    vm: VmRef | None = None
    delete_source: bool = False
    """Delete the source when the contents have moved. Default: it stays, attached nowhere."""
    generation: Generation | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.volume is None) == (self.source is None):
            raise ValueError("give volume or source")
        if (self.source is None) != (self.source_format is None):
            raise ValueError("source and sourceFormat belong together")
        if self.source is not None and self.target is not None:
            raise ValueError("from a file to a file: that is no volume of StorPool's")
        if self.target is not None and (self.template or self.to_pool or self.new_volume):
            raise ValueError("target is a file: give it, or toPool, template, newVolume")
        if self.target is None and self.template is None and self.to_pool is None and self.pool is None:
            raise ValueError("give target, toPool or template: where it is to be moved")
        if self.new_volume and (self.source or self.vm):
            raise ValueError("newVolume goes with a volume that no machine uses")
        return self
