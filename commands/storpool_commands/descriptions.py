# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The docstrings below the fields of the models, as their descriptions.

pydantic can do this itself when it makes a model (`use_attribute_docstrings`), but reads every source file for it:
that is a third of an agent's start, and an agent shows descriptions to nobody.
"""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from storpool_commands.wire import WireModel


@cache
def describe() -> tuple[type[BaseModel], ...]:
    """Give every field of every model its description, once; returns the models, those that others use first."""
    models = tuple(sorted(dict.fromkeys(_models(WireModel)), key=_depth))
    for model in models:
        docs = {name: text for base in reversed(model.__mro__) for name, text in _docs(base).items()}
        for name, field in model.model_fields.items():
            field.description = field.description or docs.get(name)
    return models


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


@cache
def _depth(model: type[BaseModel]) -> int:
    """Greater than that of every model inside: a model keeps the descriptions that those had when it was made."""
    inside = (each for field in model.model_fields.values() for each in _mentioned(field.annotation))
    return 1 + max(map(_depth, inside), default=0)


def _mentioned(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _mentioned(part)


@cache
def _docs(model: type) -> dict[str, str]:
    if not issubclass(model, BaseModel) or "[" in model.__name__ or model is BaseModel:
        return {}
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    found: dict[str, str] = {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for field, following in itertools.pairwise(body):
        match field, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
            case _:
                pass
    return found
