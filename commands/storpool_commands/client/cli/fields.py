# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Options of the command line from the fields of a model, and back."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from uuid import UUID

import click
from pydantic import AwareDatetime, BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from storpool_commands.client.cli.values import JsonObject, KeyValue, PointInTime, SecretFile, Size
from storpool_commands.descriptions import describe

M = TypeVar("M", bound=BaseModel)


def options(model: type[BaseModel], prefix: str = "", *, needed: bool = True) -> Iterator[click.Option]:
    """One for each field, those of a nested model with its name in front: `--iotune-total-iops-sec`.

    An option that is not given is None: the model has the defaults, and the checks. `needed`: a nested model that can
    be left out needs none of its options.
    """
    describe()
    for name, field in model.model_fields.items():
        if name == "command":
            continue
        kind = _kind(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from options(kind, f"{prefix}{name}_", needed=needed and field.is_required())
        else:
            yield _option(f"{prefix}{name}", kind, field, required=needed and field.is_required())


def made(model: type[M], given: Mapping[str, Any], prefix: str = "") -> M:
    """The model of what was given. Raises click.UsageError, which names the options."""
    try:
        return model(**_arguments(model, given, prefix))
    except ValidationError as error:
        raise click.UsageError(_problems(error, prefix)) from None


def _arguments(model: type[BaseModel], given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = _kind(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if _arguments(kind, given, f"{prefix}{name}_"):
                found[name] = made(kind, given, f"{prefix}{name}_")
            continue
        value = given.get(f"{prefix}{name}")
        if value is not None and value != ():
            found[name] = _collected(kind, value)
    return found


def _collected(kind: Any, value: Any) -> Any:
    """What an option was given once or several times, as its field takes it."""
    if get_origin(kind) is dict:
        return dict(value)
    if (pair := _pair(kind)) is not None:
        return [pair.model_validate(dict(zip(pair.model_fields, both, strict=True))) for both in value]
    if (item := _item(kind)) is not None:
        return [item.model_validate_json(json.dumps(each)) for each in value]
    return list(value) if get_origin(kind) is list else value


def _item(kind: Any) -> type[BaseModel] | None:
    """The model of a list whose items are written in JSON."""
    item = _kind(get_args(kind)[0]) if get_origin(kind) is list else None
    return item if isinstance(item, type) and issubclass(item, BaseModel) else None


def _pair(kind: Any) -> type[BaseModel] | None:
    """The model of a list whose every item has two words: written as `first=second`."""
    item = _item(kind)
    return item if item is not None and len(item.model_fields) == 2 else None


def _problems(error: ValidationError, prefix: str) -> str:
    listed = error.errors(include_url=False, include_input=False, include_context=False)
    return "\n".join(f"{_flag(prefix, each['loc'])}{each['msg'].removeprefix('Value error, ')}" for each in listed)


def _flag(prefix: str, location: tuple[int | str, ...]) -> str:
    """`--target-path: `, or `--target-...: ` for what is wrong with several of a nested model together."""
    words = [re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", str(part)).lower().replace("_", "-") for part in location]
    if not words:
        return f"--{prefix.replace('_', '-')}...: " if prefix else ""
    return f"--{prefix.replace('_', '-')}{'-'.join(words)}: "


def _is_flag(kind: Any) -> bool:
    """Also a field that can only be said or left out."""
    return kind is bool or (get_origin(kind) is Literal and get_args(kind) == (True,))


def _kind(annotation: Any) -> Any:
    """The type without `Annotated` and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    choices = [each for each in get_args(annotation) if each is not type(None)]
    if type(None) in get_args(annotation) and len(choices) == 1:
        return _kind(choices[0])
    return annotation


def _option(name: str, kind: Any, field: FieldInfo, *, required: bool) -> click.Option:
    flag = "--" + name.replace("_", "-") + ("-file" if kind is SecretStr else "")
    repeated = get_origin(kind) in {dict, list}
    unset: dict[str, Any] = {"is_flag": True, "default": None} if _is_flag(kind) else {}  # not the False of a flag
    return click.Option(
        [f"{flag}/--no-{flag[2:]}" if kind is bool else flag, name],
        type=_parameter_type(name, kind),
        required=required,
        multiple=repeated,
        help=_help(field, repeated=repeated),
        **unset,
    )


def _parameter_type(name: str, kind: Any) -> Any:
    if _is_flag(kind):
        return None
    if get_origin(kind) is Literal:
        return click.Choice([str(each) for each in get_args(kind)])
    if get_origin(kind) is dict or _pair(kind) is not None:
        return KeyValue()
    if _item(kind) is not None:
        return JsonObject()
    if kind is int and name.endswith(("_bytes", "_bytes_s")):
        return Size()
    known = {
        int: click.INT,
        float: click.FLOAT,
        UUID: click.UUID,
        SecretStr: SecretFile(),
        AwareDatetime: PointInTime(),
    }
    return known.get(kind, click.STRING)


def _help(field: FieldInfo, *, repeated: bool) -> str:
    parts = [field.description] if field.description else []
    if _kind(field.annotation) is SecretStr:
        parts.insert(0, "The first line of a file, or - for stdin:")
    if not field.is_required() and field.default not in (None, {}, []) and "Default:" not in (field.description or ""):
        parts.append(f"[default: {_spelt(field.default)}]")
    if repeated:
        parts.append("Can be repeated.")
    return " ".join(part.replace("\n", " ") for part in parts)


def _spelt(default: Any) -> str:
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else str(default)
