# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Volumes at StorPool: commands that touch its API alone, and their results."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from storpool_commands.labels import Labels
from storpool_commands.references import ObjectRef
from storpool_commands.wire import (
    AnswerModel,
    ClusterId,
    CommandModel,
    Limit,
    ObjectName,
    PoolName,
    Reason,
    SizeBytes,
    TagValue,
    TemplateName,
    WireModel,
)

DeleteAfterS = Annotated[int, Field(ge=1, le=10 * 365 * 24 * 3600)]


class InPool(WireModel):
    """A command for one of the host's storage pools."""

    pool: PoolName | None = None
    """As addStoragePool named it: its API endpoint, token and template. Default: those of the host's own settings."""


class Forced(WireModel):
    """A command that refuses what is attached, unless it is told otherwise."""

    detach_force: bool = False
    """First detach it everywhere, also where it is open: I/O fails there from then on. Needs a reason."""
    reason: Reason | None = None

    @model_validator(mode="after")
    def _reasoned(self) -> Self:
        if self.detach_force and self.reason is None:
            raise ValueError("detachForce needs a reason, which is kept in the log")
        return self


class CreatedVolume(AnswerModel):
    """A volume that was made for this request."""

    command: Literal["createVolume"] = "createVolume"
    global_id: str
    name: str
    """As StorPool lists it: `~<global id>` when it has no name of its own."""
    path: str
    """Where its device appears on a host that attaches it."""
    size_bytes: int
    payload_size_bytes: int | None = None
    """Of an encrypted one: what a machine will see of it, without the LUKS header. Null: it is not encrypted."""
    template: str
    parent: str | None = None
    """The global id of the snapshot that it was made from."""
    tags: dict[str, str]


class VolumeOptions(InPool, Labels):
    """How a volume that is to be made is named, placed, limited and labelled."""

    template: TemplateName | None = None
    """Default: that of the pool."""
    name: ObjectName | None = None
    """Default: none; the volume is then known by its global id."""
    iops: Limit | None = None
    bandwidth_kib_sec: Limit | None = None
    cluster_id: ClusterId | None = None
    """The cluster of a multi-cluster that it is to be made in. Default: the one that the API belongs to."""

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.tier is not None and not (self.iops is None and self.bandwidth_kib_sec is None):
            raise ValueError("a tier sets the limits itself: give the tier or the limits")
        return self


class CreateVolume(VolumeOptions, CommandModel[CreatedVolume]):
    """Make an empty volume.

    It carries the tag `sp-op` with the request's id, by which the agent finds it again when StorPool's answer
    was lost: one request makes one volume.
    """

    command: Literal["createVolume"] = "createVolume"
    size_bytes: SizeBytes
    encrypted: bool = False
    """It is to be encrypted: room for the LUKS header (2 MiB) is added to the size, and nobody can attach it before
    encryptVolume has formatted it."""

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.template is None and self.pool is None:
            raise ValueError("give a template, or a pool that has one")
        return self


class CreatedVolumeFromTemplate(CreatedVolume):
    """As for createVolume."""

    command: Literal["createVolumeFromTemplate"] = "createVolumeFromTemplate"  # type: ignore[assignment]


class CreateVolumeFromTemplate(VolumeOptions, CommandModel[CreatedVolumeFromTemplate]):
    """Make a volume that begins as a copy of a template's snapshot. No data is copied."""

    command: Literal["createVolumeFromTemplate"] = "createVolumeFromTemplate"
    snapshot: ObjectRef
    """The snapshot that downloadTemplate left (tag `cs=template`)."""
    size_bytes: SizeBytes | None = None
    """Of the offering: the volume gets the larger of this and the template's."""
    encrypted: bool = False
    """The volume is to be encrypted: it is made empty, with 2 MiB more for the LUKS header, and encryptVolume (with
    the same snapshot as `sourceSnapshot`) fills it. Nobody can attach it before."""


class CreatedVolumeFromSnapshot(CreatedVolume):
    """As for createVolume."""

    command: Literal["createVolumeFromSnapshot"] = "createVolumeFromSnapshot"  # type: ignore[assignment]


class CreateVolumeFromSnapshot(VolumeOptions, CommandModel[CreatedVolumeFromSnapshot]):
    """Make a volume that begins as a copy of a snapshot. No data is copied.

    From the snapshot of an encrypted volume comes an encrypted volume, opened by the same key; its size has the header
    in it already.
    """

    command: Literal["createVolumeFromSnapshot"] = "createVolumeFromSnapshot"
    snapshot: ObjectRef
    size_bytes: SizeBytes | None = None
    """Default: the snapshot's. A smaller one is refused (`would-shrink`)."""


class DeletedVolume(AnswerModel):
    """A volume that does not exist."""

    command: Literal["deleteVolume"] = "deleteVolume"
    global_id: str | None
    """Null when StorPool knows no such volume."""
    deleted_now: bool
    kept_snapshot: str | None = None
    """With `deleteAfterS`: the global id of the snapshot that keeps the data until then."""


class DeleteVolume(InPool, Forced, CommandModel[DeletedVolume]):
    """Delete a volume and its data. One that does not exist is a success; an attached one is refused."""

    command: Literal["deleteVolume"] = "deleteVolume"
    volume: ObjectRef
    delete_after_s: DeleteAfterS | None = None
    """Keep the data for so long as a snapshot (tag `cs=delayDelete`) that StorPool then deletes by itself."""


class VolumeSettings(AnswerModel):
    """What updateVolume can change of a volume."""

    template: str
    iops: int | None
    """Null: no limit."""
    bandwidth_kib_sec: int | None
    tags: dict[str, str]


class UpdatedVolume(AnswerModel):
    """A volume that has the settings that were asked for."""

    command: Literal["updateVolume"] = "updateVolume"
    global_id: str
    before: VolumeSettings
    after: VolumeSettings


class UpdateVolume(InPool, CommandModel[UpdatedVolume]):
    """Change a volume's limits, template or tier; the data stays in place, and machines that use it run on."""

    command: Literal["updateVolume"] = "updateVolume"
    volume: ObjectRef
    iops: Limit | None = None
    bandwidth_kib_sec: Limit | None = None
    template: TemplateName | None = None
    """Its placement and replication; StorPool moves the data by itself."""
    tier: TagValue | None = None
    """The tag `qc`, from which storpool_qos sets the limits: it beats the template's. Empty: no tier."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.iops is None and self.bandwidth_kib_sec is None and self.template is None and self.tier is None:
            raise ValueError("give iops, bandwidthKibSec, template or tier")
        if self.tier and not (self.iops is None and self.bandwidth_kib_sec is None):
            raise ValueError("a tier sets the limits itself: give the tier or the limits")
        return self


class QosTierSet(AnswerModel):
    """A volume that has its tier."""

    command: Literal["setQosTier"] = "setQosTier"
    global_id: str
    before: str | None
    after: str | None


class SetQosTier(InPool, CommandModel[QosTierSet]):
    """Give a volume a tier of storpool_qos. Only the tag `qc` is sent, the service sets the limits in its period."""

    command: Literal["setQosTier"] = "setQosTier"
    volume: ObjectRef
    tier: TagValue
    """Empty: no tier. The limits then stay as they are."""


class FencedVolume(AnswerModel):
    """A volume that no client has any more."""

    global_id: str
    detached_from: list[int]
    """The clients that had it before."""


class FencedVolumes(AnswerModel):
    """Volumes that are attached nowhere, as the list of attachments says."""

    command: Literal["fenceVolumes"] = "fenceVolumes"
    volumes: list[FencedVolume]


class FenceVolumes(InPool, CommandModel[FencedVolumes]):
    """Detach volumes everywhere, by force, and confirm that nobody has them, before their machine is started anew.

    A volume that does not exist, or that a machine of this host uses, fails the whole command before anything is
    detached.
    """

    command: Literal["fenceVolumes"] = "fenceVolumes"
    volumes: Annotated[list[ObjectRef], Field(min_length=1, max_length=100)]
    confirm_fenced: Literal[True]
    """The sender's word that the hosts which had them write no more: powered off, or known to be detached. StorPool
    cuts them off, but what a guest there still believes to have written is lost."""
    reason: Reason
