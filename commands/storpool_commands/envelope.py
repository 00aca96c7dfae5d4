# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests and replies: what goes around every command and every result."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from storpool_commands.catalogue import AnyCommand, Command, ControlCommand, Result
from storpool_commands.control import JobProgress
from storpool_commands.errors import ErrorCode, Retry, SideEffects
from storpool_commands.references import parse
from storpool_commands.volumes import CreateVolume, CreateVolumeFromSnapshot, CreateVolumeFromTemplate
from storpool_commands.wire import (
    AnswerModel,
    Fact,
    HostId,
    RequestId,
    Timestamp,
    ToldTraceParent,
    TraceParent,
    WireModel,
)

PROTOCOL = 1
MAX_BODY_BYTES = 1024 * 1024
PROGRESS_EVERY_S = 10.0
"""From `accepted` to its reply a copy job that was asked for progress is never silent for longer."""


def _whole_number(value: object) -> object:
    """To Python, and so to Literal[1], `true` and 1.0 are 1 too."""
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


class _Envelope(WireModel):
    id: RequestId
    """Chosen by the sender. The same id again is the same request: it is never run twice."""
    protocol: Annotated[Literal[1], BeforeValidator(_whole_number)]
    deadline: Timestamp | None = None
    """A request that has not started by then is never started; a copy job that runs then is stopped."""
    dry_run: bool = False
    progress: bool = False
    """Also send `accepted` and `progress` replies."""
    traceparent: TraceParent | None = None
    """The span that the command is sent from. In the host's log, its requests to StorPool, and all it says of this."""


class Request(_Envelope):
    """A command for a host's queue."""

    body: Command


class AnyRequest(Request):
    """A command for the queue of all hosts.

    What it changes or deletes is named by its global id: when a host dies, or loses the broker, another runs the
    command again, and by then a name may belong to another object.
    """

    body: AnyCommand  # pyright: ignore[reportIncompatibleVariableOverride] - frozen, so a narrower type is no harm

    @field_validator("body")
    @classmethod
    def _by_global_id(cls, body: AnyCommand) -> AnyCommand:
        if isinstance(body, CreateVolume | CreateVolumeFromTemplate | CreateVolumeFromSnapshot):
            return body
        if names := _names(body):
            problems = [InitErrorDetails(type=_NAME, loc=(body.command, *where), input=None) for where in names]
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return body


_NAME = PydanticCustomError(
    "name",
    "must be ~<global id> or /dev/storpool-byid/<global id>: for any host, because another may run the command"
    " again when a name has moved to another object",
)


def _names(body: AnyCommand) -> list[tuple[str | int, ...]]:
    """Where the command refers to something by a name."""
    fields = vars(body)
    single = [((field,), fields[field]) for field in ("volume", "snapshot") if field in fields]
    listed = [(("volumes", index), each) for index, each in enumerate(fields.get("volumes", ()))]
    return [where for where, text in (*single, *listed) if parse(text).kind == "name"]


class ControlRequest(_Envelope):
    """A command for a host's control queue."""

    body: ControlCommand


class Step(AnswerModel):
    """One step of a command, in the order they were taken."""

    step: str
    status: Literal["done", "already", "failed", "undone", "planned"]
    """`already`: there was nothing to do. `undone`: done by this command, and taken back when it failed."""
    took_ms: float


class _Reply(AnswerModel):
    id: RequestId | None
    """The request's id; null when the message had none that could be read."""
    host: HostId
    protocol: Literal[1] = 1
    traceparent: ToldTraceParent = None


class Success(_Reply):
    """The command has taken effect."""

    status: Literal["success"] = "success"
    result: Result
    steps: list[Step] = []
    took_ms: float


class Failure(_Reply):
    """The command has not taken effect; what it has left changed is in `sideEffects`."""

    status: Literal["failure"] = "failure"
    code: ErrorCode
    message: str
    """For a person: what happened, to which object, and what to do."""
    retry: Retry
    side_effects: SideEffects
    facts: dict[str, Fact] = {}
    steps: list[Step] = []
    took_ms: float = 0


class Accepted(_Reply):
    """The request is stored on the host and will be run. Sent when the request asked for progress."""

    status: Literal["accepted"] = "accepted"


class Progress(JobProgress, _Reply):
    """How far a request is that runs, or that waits for its turn. Sent when the request asked for progress.

    For a copy job at least every `PROGRESS_EVERY_S`, also when nothing moves.
    """

    status: Literal["progress"] = "progress"


FinalReply = Success | Failure
Reply = Annotated[Success | Failure | Accepted | Progress, Field(discriminator="status")]

_REPLY: TypeAdapter[Success | Failure | Accepted | Progress] = TypeAdapter(Reply)


def parse_reply(body: bytes) -> Success | Failure | Accepted | Progress:
    """Read a reply. Raises pydantic.ValidationError when it is none."""
    return _REPLY.validate_json(body)


class Event(AnswerModel):
    """Something that happened on a host, as a CloudEvent 1.0 in structured JSON."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    """`/hosts/<host>`"""
    type: str
    """Such as `com.storpool.agent.attachment.detached`."""
    time: Timestamp
    subject: str | None = None
    traceparent: ToldTraceParent = None
    """As the extension for distributed tracing has it."""
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]
