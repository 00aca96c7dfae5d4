# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The bytes of a request."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, get_args
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from storpool_commands import topology
from storpool_commands.catalogue import AnyCommand, BulkCommand, Command, ControlCommand
from storpool_commands.envelope import (
    MAX_BODY_BYTES,
    PROGRESS_EVERY_S,
    PROTOCOL,
    Accepted,
    AnyRequest,
    ControlRequest,
    Progress,
    Request,
)
from storpool_commands.wire import CommandModel, HostId

PATIENCE_S = 30.0
SILENCE_S = 6 * PROGRESS_EVERY_S  # an agent that is restarted meanwhile says nothing for some seconds
"""How long a copy job may show no sign of life."""
ANY_COMMANDS: tuple[type[CommandModel[Any]], ...] = get_args(get_args(AnyCommand)[0])
_COMMANDS: tuple[type[CommandModel[Any]], ...] = get_args(get_args(Command)[0])
_CONTROL: tuple[type[CommandModel[Any]], ...] = get_args(get_args(ControlCommand)[0])
CONTROL_ONLY = tuple(model for model in _CONTROL if model not in _COMMANDS)
_HOST: TypeAdapter[str] = TypeAdapter(HostId)

OnProgress = Callable[[Accepted | Progress], None]


class Options(TypedDict, total=False):
    """How a command is sent; `Terms` says what each means."""

    timeout_s: float | None
    deadline: datetime | None
    on_progress: OnProgress | None
    dry_run: bool
    request_id: UUID | None
    traceparent: str | None


@dataclass(frozen=True)
class Terms:
    """How a command is sent."""

    timeout_s: float | None = None
    """How long the caller waits; the command may take longer. Default: `patience_s`, and for a copy job as long as it
    takes: until there was no sign of life for `patience_s`."""
    deadline: datetime | None = None
    """With a time zone. A host does not start the command after it."""
    on_progress: OnProgress | None = None
    """Called in the caller's thread with every sign of life."""
    dry_run: bool = False
    """Have the host check and say what it would do, and change nothing."""
    request_id: UUID | None = None
    """Default: a new one. That of an earlier request asks for the reply to that one."""
    traceparent: str | None = None
    """W3C trace context."""


def wire_name(command: CommandModel[Any]) -> str:
    """Such as `attachDisk`."""
    name: str = type(command).model_fields["command"].default
    return name


def is_bulk(command: CommandModel[Any]) -> bool:
    """A copy job: nobody can say how long it takes, so progress is always asked for."""
    return isinstance(command, BulkCommand)


def patience_s(command: CommandModel[Any]) -> float:
    """Half a minute more than the waits that the command itself asks the host for; for a copy job, of silence."""
    if is_bulk(command):
        return SILENCE_S
    return PATIENCE_S + sum(getattr(command, wait, 0.0) for wait in ("timeout_s", "wait_guest_s"))


def exchange_of(command: CommandModel[Any]) -> str:
    """The exchange of commands, but for those that the control queue alone takes."""
    return topology.CONTROL if isinstance(command, CONTROL_ONLY) else topology.COMMANDS


def check_addressee(command: CommandModel[Any], host: str, exchange: str) -> None:
    """Raises ValueError for a command that `any` host cannot be asked for, and for what can be no host.

    A name that is none would be several words of a routing key.
    """
    _HOST.validate_python(host)
    if host != topology.ANY_HOST:
        return
    if exchange == topology.CONTROL:
        raise ValueError(f"{wire_name(command)} goes to the control queue of one host: say which, not {host}")
    if type(command) not in ANY_COMMANDS:
        raise ValueError(
            f"{wire_name(command)} is for one host: say which, not {host}, which takes only what touches StorPool's "
            "API alone"
        )


def encode(
    command: CommandModel[Any], request_id: UUID, exchange: str, terms: Terms, *, for_any: bool = False
) -> bytes:
    """Leaves defaults out, so that an older agent, which refuses fields that it does not know, takes it too.

    The same arguments make the same bytes. Raises ValueError.
    """
    fields: dict[str, Any] = {
        "id": request_id,
        "protocol": PROTOCOL,
        "deadline": terms.deadline,
        "dry_run": terms.dry_run,
        "progress": terms.on_progress is not None or is_bulk(command),
        "traceparent": terms.traceparent,
        "body": command,
    }
    if for_any:
        model: type[Request | ControlRequest] = AnyRequest
    else:
        model = ControlRequest if exchange == topology.CONTROL else Request
    try:
        request = model(**fields)
    except ValidationError as error:
        raise ValueError(f"no such request can be made: {error}") from None
    said = request.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    said["body"] = {"command": wire_name(command), **said["body"]}
    body = json.dumps(said, separators=(",", ":")).encode()
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"the request has {len(body)} bytes, the most is {MAX_BODY_BYTES}")
    return body
