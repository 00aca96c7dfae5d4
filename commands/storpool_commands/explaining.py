# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why a volume is as it is: a command of the control queue for the person who has to free it."""

from typing import Literal

from storpool_commands.control import Kept
from storpool_commands.disks import AttachedTo, Holder, Mode
from storpool_commands.migration import SeenMigration
from storpool_commands.references import ObjectRef
from storpool_commands.wire import AnswerModel, CommandModel, RequestId, Timestamp


class SeenVolume(AnswerModel):
    """The volume or snapshot, as StorPool has it."""

    global_id: str
    name: str
    snapshot: bool
    size_bytes: int
    template: str
    tags: dict[str, str]


class SeenDevice(AnswerModel):
    """The device on this host."""

    link: str
    node: str
    size_bytes: int
    mode: Mode


class SeenDisk(AnswerModel):
    """A machine of this host that has the volume as a disk."""

    vm: str
    """Its UUID."""
    name: str
    running: bool
    target: str
    live: bool
    """The running machine has it."""
    config: bool
    """It is in the configuration for the next start."""
    mode: Mode


class SeenJob(AnswerModel):
    """A request of this host that is about the volume."""

    id: RequestId
    body_command: str
    state: Literal["running", "queued", "finished"]
    received_at: Timestamp
    step: str | None = None
    """What a running one is doing."""
    outcome: Literal["success", "failure"] | None = None
    code: str | None = None
    finished_at: Timestamp | None = None


class SeenUnplug(AnswerModel):
    """A guest that was asked to let go of the volume and has not yet."""

    vm: str
    request: str
    since: Timestamp


class ExplainedVolume(AnswerModel):
    """Who has the volume and what to do, from all who know something of it."""

    command: Literal["explainVolume"] = "explainVolume"
    global_id: str | None
    """Null when only its name is known, and nobody says what that stands for."""
    volume: SeenVolume | None
    """Null when StorPool has no such object, or was not reached."""
    client: int
    """This host's client id."""
    attachments: list[AttachedTo]
    """Of all clients."""
    device: SeenDevice | None
    link: str | None
    """The path of its link, if there is one, whatever it leads to."""
    holders: list[Holder]
    """Who has the device open on this host."""
    disks: list[SeenDisk]
    jobs: list[SeenJob]
    """Those that run or wait, in order of arrival."""
    recent: list[SeenJob]
    """The last finished ones that named it, the newest first."""
    pending_unplug: SeenUnplug | None
    migration: SeenMigration | None = None
    """The migration of its machine, if one is neither finished nor rolled back on this host."""
    generation: int
    """The highest that the host has seen; 0: none."""
    writing: str | None
    """The request that is still writing it (tag `sp-writing`)."""
    operation: str | None
    """The request that made it (tag `sp-op`)."""
    temporaries: list[Kept]
    """What copy jobs have written down about it: `target` is the request."""
    not_known: list[str]
    """What could not be found out, and why; for a person."""
    summary: str
    """Who has it, in a sentence."""
    advice: list[str]
    """What to do, in a few; commands stand between backquotes."""


class ExplainVolume(CommandModel[ExplainedVolume]):
    """Ask who has a volume or snapshot on this host, and what to do about it. Nothing is changed."""

    command: Literal["explainVolume"] = "explainVolume"
    volume: ObjectRef
