# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests whose command has a secret in it: the journal and dead letters get them without.

What is secret is said by the models: every field that is a SecretStr.
"""

from typing import TypeVar

from pydantic import BaseModel, SecretStr

from storpool_commands.envelope import ControlRequest, Request

HIDDEN = SecretStr("(secret)")

M = TypeVar("M", bound=BaseModel)


def has_secret(model: BaseModel) -> bool:
    """Whether any field of it, or of a model in it, is a secret."""
    return any(
        isinstance(value, SecretStr) or (isinstance(value, BaseModel) and has_secret(value))
        for value in vars(model).values()
    )


def storable(request: Request | ControlRequest, body: bytes) -> bytes:
    """The bytes of a request that may be kept: as they came, when there is no secret in them."""
    if not has_secret(request.body):
        return body
    hidden = request.model_copy(update={"body": _without(request.body)})
    return hidden.model_dump_json(by_alias=True).encode()


def _without(model: M) -> M:
    """A copy with every secret replaced, whatever its length."""
    changes = {
        name: _replaced(value) for name, value in vars(model).items() if isinstance(value, SecretStr | BaseModel)
    }
    return model.model_copy(update=changes)


def _replaced(value: SecretStr | BaseModel) -> SecretStr | BaseModel:
    return HIDDEN if isinstance(value, SecretStr) else _without(value)
