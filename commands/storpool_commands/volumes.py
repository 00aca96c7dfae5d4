# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Volumes at StorPool: commands that touch its API alone, and their results."""

from typing import Annotated, Literal

from pydantic import Field

from storpool_commands.references import ObjectRef
from storpool_commands.wire import (
    AnswerModel,
    CommandModel,
    Limit,
    ObjectName,
    SizeBytes,
    TagName,
    TagValue,
    TemplateName,
)

Tags = Annotated[dict[TagName, TagValue], Field(max_length=64)]


class CreatedVolume(AnswerModel):
    """A volume that was made for this request."""

    command: Literal["createVolume"] = "createVolume"
    global_id: str
    name: str
    """As StorPool lists it: `~<global id>` when it has no name of its own."""
    path: str
    """Where its device appears on a host that attaches it."""
    size_bytes: int
    template: str
    tags: dict[str, str]


class CreateVolume(CommandModel[CreatedVolume]):
    """Make an empty volume.

    It carries the tag `sp-op` with the request's id, by which the agent finds it again when StorPool's answer
    was lost: one request makes one volume.
    """

    command: Literal["createVolume"] = "createVolume"
    size_bytes: SizeBytes
    template: TemplateName
    name: ObjectName | None = None
    """Default: none; the volume is then known by its global id."""
    tags: Tags = {}
    iops: Limit | None = None
    bandwidth_kib_sec: Limit | None = None


class DeletedVolume(AnswerModel):
    """A volume that does not exist."""

    command: Literal["deleteVolume"] = "deleteVolume"
    global_id: str | None
    """Null when StorPool knows no such volume."""
    deleted_now: bool


class DeleteVolume(CommandModel[DeletedVolume]):
    """Delete a volume and its data. A volume that does not exist is a success; an attached one is refused."""

    command: Literal["deleteVolume"] = "deleteVolume"
    volume: ObjectRef
