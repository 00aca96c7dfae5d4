# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a message to a request, or to the reason why it is none."""

import json
import re
from typing import Any, TypeVar
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from storpool_commands.envelope import MAX_BODY_BYTES, PROTOCOL, AnyRequest, ControlRequest, Request
from storpool_commands.errors import ErrorCode
from storpool_commands.wire import Fact

E = TypeVar("E", Request, AnyRequest, ControlRequest)

_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}|[0-9]{1,4}")


class InvalidRequest(Exception):
    """A message that is no request. Says why, without repeating what was sent."""

    def __init__(self, code: ErrorCode, message: str, request_id: UUID | None = None, **facts: Fact) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.facts = facts


def parse_request(body: bytes) -> Request:
    """Read what came on a host's queue. Raises InvalidRequest."""
    return _parse(body, Request)


def parse_any_request(body: bytes) -> AnyRequest:
    """Read what came on the queue of all hosts. Raises InvalidRequest."""
    return _parse(body, AnyRequest)


def parse_control_request(body: bytes) -> ControlRequest:
    """Read what came on a host's control queue. Raises InvalidRequest."""
    return _parse(body, ControlRequest)


def _parse(body: bytes, model: type[E]) -> E:
    if len(body) > MAX_BODY_BYTES:
        raise InvalidRequest(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"the message has {len(body)} bytes, the most is {MAX_BODY_BYTES}",
            size_bytes=len(body),
            max_bytes=MAX_BODY_BYTES,
        )
    try:
        # By alias only: `dry_run` beside `dryRun` would be a field that is there twice.
        request = model.model_validate_json(body, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _explain(error, body) from None
    _refuse_duplicate_keys(body, request.id)
    return request


def _refuse_duplicate_keys(body: bytes, request_id: UUID) -> None:
    """JSON parsers disagree on which of two equal keys counts, so a message with two is ambiguous.

    Runs after pydantic, whose parser refuses the deep nesting that would overflow this one's stack.
    """
    try:
        json.loads(body, object_pairs_hook=_unique)
    except ValueError as error:
        raise InvalidRequest(ErrorCode.NOT_JSON, str(error), request_id) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object of the message has the same key twice")
    return found


def _explain(error: ValidationError, body: bytes) -> InvalidRequest:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    if problems[0]["type"] == "json_invalid":
        return InvalidRequest(ErrorCode.NOT_JSON, f"the message is not JSON: {problems[0]['msg']}")
    request_id = _readable_id(body)
    worst = min(problems, key=_rank)
    code = _code(worst)
    field = _field(worst)
    message = worst["msg"].removeprefix("Value error, ")
    if code is ErrorCode.UNSUPPORTED_PROTOCOL:
        message = f"this host speaks protocol {PROTOCOL}"
    if code is ErrorCode.UNKNOWN_FIELD:
        message = "no such field; the host refuses a command that it would only half understand"
    if code is ErrorCode.UNKNOWN_COMMAND:
        message = "no such command on this queue; docs/protocol.md lists them"
    return InvalidRequest(code, f"{field}: {message}" if field else message, request_id, field=field)


_ORDER = (
    ErrorCode.INVALID_REQUEST,
    ErrorCode.UNSUPPORTED_PROTOCOL,
    ErrorCode.INVALID_ID,
    ErrorCode.UNKNOWN_COMMAND,
    ErrorCode.UNKNOWN_FIELD,
    ErrorCode.INVALID_COMMAND,
)
"""Of several problems the one is told that explains the others."""


def _rank(problem: ErrorDetails) -> int:
    return _ORDER.index(_code(problem))


def _code(problem: ErrorDetails) -> ErrorCode:
    match problem["loc"], problem["type"]:
        case ("protocol",), kind if kind != "missing":
            return ErrorCode.UNSUPPORTED_PROTOCOL
        case ("id",), kind if kind != "missing":
            return ErrorCode.INVALID_ID
        case ("body",), "union_tag_invalid":
            return ErrorCode.UNKNOWN_COMMAND
        case _, "extra_forbidden":
            return ErrorCode.UNKNOWN_FIELD
        case ("body", _, *_), _:
            return ErrorCode.INVALID_COMMAND
        case _:
            return ErrorCode.INVALID_REQUEST


def _field(problem: ErrorDetails) -> str:
    """`body.attachDisk.target`; what a sender would find in its own message.

    A key that looks like no name of a field is not repeated: it may be anything.
    """
    parts = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    return ".".join(part if _FIELD_NAME.fullmatch(part) else "?" for part in parts)


def _readable_id(body: bytes) -> UUID | None:
    try:
        return UUID(json.loads(body)["id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
