# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tags of volumes: what VolumeCare, storpool_qos and the management plane go by."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from storpool_commands.labels import is_own
from storpool_commands.references import ObjectRef
from storpool_commands.volumes import InPool
from storpool_commands.wire import AnswerModel, CommandModel, Label, TagName


def _not_own(tag: str) -> str:
    if is_own(tag):
        raise ValueError("the tag is the agent's own")
    return tag


Tag = Annotated[TagName, AfterValidator(_not_own)]
Volumes = Annotated[list[ObjectRef], Field(min_length=1, max_length=100)]


class TaggedVolume(AnswerModel):
    """The tags of one volume."""

    global_id: str
    before: dict[str, str]
    after: dict[str, str]


class CreatedTags(AnswerModel):
    """Volumes that have the tags."""

    command: Literal["StorPoolCreateTagsCmd"] = "StorPoolCreateTagsCmd"
    volumes: list[TaggedVolume]


class StorPoolCreateTags(InPool, CommandModel[CreatedTags]):
    """Set tags on all disks of a machine, such as `vc-policy`. Other tags stay.

    Every volume is looked up before any is changed. When StorPool fails in between it is `tags-not-set`, whose facts
    say which volumes are left.
    """

    command: Literal["StorPoolCreateTagsCmd"] = "StorPoolCreateTagsCmd"
    volumes: Volumes
    set: Annotated[dict[Tag, Label], Field(min_length=1, max_length=64)]


class DeletedTags(AnswerModel):
    """Volumes that do not have the tags."""

    command: Literal["StorPoolDeleteTagsCmd"] = "StorPoolDeleteTagsCmd"
    volumes: list[TaggedVolume]


class StorPoolDeleteTags(InPool, CommandModel[DeletedTags]):
    """Remove tags from all disks of a machine. Other tags stay; volumes that do not exist are passed over."""

    command: Literal["StorPoolDeleteTagsCmd"] = "StorPoolDeleteTagsCmd"
    volumes: Volumes
    remove: Annotated[list[Tag], Field(min_length=1, max_length=64)]
