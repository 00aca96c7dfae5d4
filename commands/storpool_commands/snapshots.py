# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes at StorPool, and templates, which are snapshots too."""

from typing import Literal

from storpool_commands.labels import Labels
from storpool_commands.references import ObjectRef
from storpool_commands.volumes import DeleteAfterS, Forced, InPool
from storpool_commands.wire import AnswerModel, CommandModel, Limit, ObjectName


class TakenSnapshot(AnswerModel):
    """A snapshot that was taken for this request."""

    command: Literal["takeSnapshot"] = "takeSnapshot"
    global_id: str
    name: str
    path: str
    volume: str
    """The global id of the volume."""
    size_bytes: int
    tags: dict[str, str]


class TakeSnapshot(InPool, Labels, CommandModel[TakenSnapshot]):
    """Take a snapshot of a volume as its disk is at that moment: what a guest has not flushed is not in it."""

    command: Literal["takeSnapshot"] = "takeSnapshot"
    volume: ObjectRef
    name: ObjectName | None = None
    """Default: none; the snapshot is then known by its global id."""
    delete_after_s: DeleteAfterS | None = None
    """StorPool deletes it by itself then. Default: never."""


class DeletedSnapshot(AnswerModel):
    """A snapshot that does not exist."""

    command: Literal["deleteSnapshot"] = "deleteSnapshot"
    global_id: str | None
    """Null when StorPool knows no such snapshot."""
    deleted_now: bool


class DeleteSnapshot(InPool, Forced, CommandModel[DeletedSnapshot]):
    """Delete a snapshot. Volumes made from it stay. One that does not exist is a success; an attached one is refused.

    One that is exported to another location is refused as `still-exported`.
    """

    command: Literal["deleteSnapshot"] = "deleteSnapshot"
    snapshot: ObjectRef


class DeletedTemplate(DeletedSnapshot):
    """As for deleteSnapshot."""

    command: Literal["deleteTemplate"] = "deleteTemplate"  # type: ignore[assignment]


class DeleteTemplate(InPool, CommandModel[DeletedTemplate]):
    """Delete the snapshot that a template is cached in. Volumes made from it stay."""

    command: Literal["deleteTemplate"] = "deleteTemplate"
    snapshot: ObjectRef


class RevertedVolume(AnswerModel):
    """A volume that has the data of its snapshot."""

    command: Literal["revertSnapshot"] = "revertSnapshot"
    global_id: str
    snapshot: str
    size_bytes: int
    iops: int | None
    safety_snapshot: str | None
    """The global id of the snapshot of what the volume had before."""


class RevertSnapshot(InPool, CommandModel[RevertedVolume]):
    """Give a volume the data of a snapshot. What was written since is lost, but for a safety snapshot.

    Refused while the volume is attached anywhere (`volume-busy`), or a running machine of this host has it.
    """

    command: Literal["revertSnapshot"] = "revertSnapshot"
    volume: ObjectRef
    snapshot: ObjectRef
    detach: bool = False
    """First detach it wherever it is attached and not open."""
    revert_size: bool = False
    """Also give the volume the size of the snapshot. Default: it keeps its own."""
    safety_snapshot: bool = False
    """First take a snapshot (tag `cs=safety`), so that the revert can be undone."""
    iops: Limit | None = None
    """Set afterwards. Default: the limit that the volume has; a revert alone may lose it."""
