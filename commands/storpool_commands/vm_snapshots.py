# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of all disks of a virtual machine at one moment."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from storpool_commands.labels import Tags
from storpool_commands.references import ObjectRef
from storpool_commands.volumes import InPool
from storpool_commands.wire import AnswerModel, CommandModel, Label, VmRef, WireModel

MAX_DISKS = 64

Quiesce = Literal["require", "try", "no"]
Consistency = Literal["file-system", "crash"]
"""`file-system`: the guest's file systems were frozen, mounting them needs no recovery. `crash`: as after a loss
of power."""


class DiskSnapshot(AnswerModel):
    """The snapshot of one disk."""

    volume: str
    """Its global id, as that of the snapshot."""
    snapshot: str
    size_bytes: int


class TakenVmSnapshot(AnswerModel):
    """Snapshots of several volumes, taken at one moment."""

    command: Literal["takeVMSnapshot"] = "takeVMSnapshot"
    snapshots: list[DiskSnapshot]
    """In the order of the command's volumes."""
    consistency: Consistency
    frozen_ms: float | None
    """How long the guest could not write. Null when it was not frozen."""
    not_frozen: str | None = None
    """With `quiesce: try`: why the guest was not frozen."""


class TakeVmSnapshot(InPool, CommandModel[TakenVmSnapshot]):
    """Take a snapshot of all these volumes at one moment: all of them, or none.

    Before the guest is frozen the agent writes down until when: whatever happens to the agent, it is thawed by then.
    """

    command: Literal["takeVMSnapshot"] = "takeVMSnapshot"
    volumes: Annotated[list[ObjectRef], Field(min_length=1, max_length=MAX_DISKS)]
    vm: VmRef | None = None
    """The machine on this host whose guest is to be frozen; with `quiesce` other than `no`."""
    quiesce: Quiesce = "no"
    """Freeze the guest's file systems through its agent: `require` fails when that cannot be done, `try` goes on."""
    freeze_timeout_s: Annotated[float, Field(ge=1, le=60)] = 10
    """The longest that the guest may be frozen."""
    uuid: Label | None = None
    """What the management plane knows the VM snapshot by (tag `uuid` of each snapshot)."""
    vm_uuid: Label | None = None
    """The tag `cvm` of each snapshot."""
    tags: Tags = {}

    @model_validator(mode="after")
    def _has_a_guest(self) -> Self:
        if (self.quiesce == "no") != (self.vm is None):
            raise ValueError("give vm to freeze its guest, and only then")
        if len(set(self.volumes)) < len(self.volumes):
            raise ValueError("a volume is there twice")
        return self


class VolumeAndSnapshot(WireModel):
    """A volume, and the snapshot that it is to go back to."""

    volume: ObjectRef
    snapshot: ObjectRef


class RevertedDisk(AnswerModel):
    """A volume that has the data of its snapshot."""

    volume: str
    snapshot: str
    safety_snapshot: str | None
    iops: int | None


class RevertedVmSnapshot(AnswerModel):
    """Volumes that all have the data of their snapshots."""

    command: Literal["revertVMSnapshot"] = "revertVMSnapshot"
    disks: list[RevertedDisk]


class RevertVmSnapshot(InPool, CommandModel[RevertedVmSnapshot]):
    """Give all disks of a machine that is off the data of their snapshots.

    Everything is checked before anything is changed: every volume and snapshot is there, nothing is attached, the
    machine does not run. When StorPool fails in between it is `revert-incomplete`, whose facts say which volumes
    are reverted and which are not; the same body with a new id goes on.
    """

    command: Literal["revertVMSnapshot"] = "revertVMSnapshot"
    disks: Annotated[list[VolumeAndSnapshot], Field(min_length=1, max_length=MAX_DISKS)]
    vm: VmRef | None = None
    """A machine of this host that must not run. Machines that have one of the volumes are found without it."""
    detach: bool = False
    """First detach the volumes wherever they are attached and not open."""
    safety_snapshots: bool = True
    """First take a snapshot of all volumes at one moment (tag `cs=safety`), so that the revert can be undone."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len({disk.volume for disk in self.disks}) < len(self.disks):
            raise ValueError("a volume is there twice")
        return self


class DeletedVmSnapshot(AnswerModel):
    """Snapshots that do not exist any more."""

    command: Literal["deleteVMSnapshot"] = "deleteVMSnapshot"
    deleted: list[str]
    """Deleted by this command, as they were named."""
    missing: list[str]
    """Not there before it, as they were named."""


class DeleteVmSnapshot(InPool, CommandModel[DeletedVmSnapshot]):
    """Delete the snapshots of a VM snapshot. Those that do not exist are done already.

    One that cannot be deleted does not keep the others: the failure is `delete-incomplete`, its facts say what is left.
    """

    command: Literal["deleteVMSnapshot"] = "deleteVMSnapshot"
    snapshots: Annotated[list[ObjectRef], Field(min_length=1, max_length=MAX_DISKS)]
