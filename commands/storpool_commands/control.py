# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands of the control queue: served at once, never behind a lane. They change no disk."""

from typing import Annotated, Any, Literal

from pydantic import Field

from storpool_commands.wire import AnswerModel, CommandModel, HostId, RequestId, Timestamp

State = Literal["accepted", "running", "finished"]


class Pong(AnswerModel):
    """The agent lives."""

    command: Literal["ping"] = "ping"
    host: HostId
    version: str
    time: Timestamp


class Ping(CommandModel[Pong]):
    """Ask whether the agent lives. On a host's queue it takes the whole durable way that commands take."""

    command: Literal["ping"] = "ping"


class CommandStatus(AnswerModel):
    """What became of one request."""

    id: RequestId
    body_command: str
    """The command that the request asked for."""
    state: State
    received_at: Timestamp
    attempts: int
    """How often it was started: more than once when the agent died in between."""
    steps: list[str] = []
    """The steps of a running command, the last being the present one."""


class QueriedCommand(AnswerModel):
    """What became of a request, with its reply once there is one."""

    command: Literal["queryCommand"] = "queryCommand"
    status: CommandStatus
    reply: dict[str, Any] | None
    """The reply as it was published, null as long as the command is not finished."""


class QueryCommand(CommandModel[QueriedCommand]):
    """Ask what became of a request; `unknown-request` when this host never accepted it, or long ago."""

    command: Literal["queryCommand"] = "queryCommand"
    id: RequestId


class ListedCommands(AnswerModel):
    """The requests that this host has accepted, the newest first."""

    command: Literal["listCommands"] = "listCommands"
    commands: list[CommandStatus]


class ListCommands(CommandModel[ListedCommands]):
    """List the requests of this host."""

    command: Literal["listCommands"] = "listCommands"
    state: State | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class CancelledCommand(AnswerModel):
    """A request that will not be run, or that has been asked to stop."""

    command: Literal["cancelCommand"] = "cancelCommand"
    id: RequestId
    outcome: Literal["cancelled", "stopping"]
    """`cancelled`: it had not started, its reply is the failure `cancelled`. `stopping`: it runs, and ends at
    its next step that can be left; its own reply says how it ended."""


class CancelCommand(CommandModel[CancelledCommand]):
    """Stop a request: `too-late` when it is finished, `unknown-request` when this host does not know it."""

    command: Literal["cancelCommand"] = "cancelCommand"
    id: RequestId
