# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests whose command has a secret in it: the journal and dead letters get them without.

What is secret is said by the models: every field that is a SecretStr.
"""

from typing import TypeVar, cast

from pydantic import BaseModel, SecretStr

from storpool_commands.envelope import ControlRequest, Request

HIDDEN = SecretStr("(secret)")

M = TypeVar("M", bound=BaseModel)


def has_secret(model: BaseModel) -> bool:
    """Whether any field of it, or of a model in it or in a list of it, is a secret."""
    return any(_is_secret(value) for value in vars(model).values())


def _is_secret(value: object) -> bool:
    if isinstance(value, list):
        return any(_is_secret(each) for each in cast("list[object]", value))
    return isinstance(value, SecretStr) or (isinstance(value, BaseModel) and has_secret(value))


def storable(request: Request | ControlRequest, body: bytes) -> bytes:
    """The bytes of a request that may be kept: as they came, when there is no secret in them."""
    if not has_secret(request.body):
        return body
    hidden = request.model_copy(update={"body": _without(request.body)})
    return hidden.model_dump_json(by_alias=True).encode()


def _without(model: M) -> M:
    """A copy with every secret replaced, whatever its length."""
    fields: dict[str, object] = vars(model)
    changes = {name: _replaced(value) for name, value in fields.items()}
    return model.model_copy(update=changes)


def _replaced(value: object) -> object:
    if isinstance(value, list):
        return [_replaced(each) for each in cast("list[object]", value)]
    if isinstance(value, BaseModel):
        return _without(value)
    return HIDDEN if isinstance(value, SecretStr) else value
