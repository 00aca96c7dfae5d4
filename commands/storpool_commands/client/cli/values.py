# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What an option's text may be."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import click
from pydantic import SecretStr

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}


class Size(click.ParamType):  # type: ignore[type-arg] # generic from click 8.5 on only
    """Bytes, or with a unit of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]{1,19})(?:([KMGTP])(?:iB)?)?", str(value))
        if match is None:
            self.fail("must be bytes, or a whole number of KiB, MiB, GiB, TiB or PiB such as 10GiB", param, ctx)
        return int(match[1]) * _UNITS[match[2] or ""]


class KeyValue(click.ParamType):  # type: ignore[type-arg]
    """`key=value`."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not equals:
            self.fail("must be key=value", param, ctx)
        return key, text


class JsonObject(click.ParamType):  # type: ignore[type-arg]
    """What has more words than `key=value` can tell."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        try:
            read = cast("object", json.loads(value))
        except ValueError:
            read = None
        if not isinstance(read, dict):
            self.fail('must be a JSON object, such as {"volume": "disk-1", "mode": "rw"}', param, ctx)
        given = cast("dict[str, Any]", read)
        if _names(given, "secret"):
            self.fail(
                "arguments are seen by everybody on the machine: give a key by its file or credential", param, ctx
            )
        return given


def _names(value: object, word: str) -> bool:
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return word in members or any(_names(each, word) for each in members.values())
    return isinstance(value, list) and any(_names(each, word) for each in cast("list[object]", value))


class SecretFile(click.ParamType):  # type: ignore[type-arg]
    """A secret in the first line of a file, or of stdin: arguments are seen by everybody on the machine."""

    name = "file|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SecretStr:
        if isinstance(value, SecretStr):
            return value
        try:
            text = sys.stdin.readline() if value == "-" else Path(value).read_text(encoding="utf-8")
        except OSError as error:
            self.fail(f"{value}: {error.strerror}", param, ctx)
        except UnicodeDecodeError:
            self.fail(f"{value}: not text in UTF-8", param, ctx)
        secret = text.partition("\n")[0].strip()
        if not secret:
            self.fail(f"{'stdin' if value == '-' else value}: its first line is empty", param, ctx)
        return SecretStr(secret)


class PointInTime(click.ParamType):  # type: ignore[type-arg]
    """RFC 3339 with a time zone, or seconds from now."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if re.fullmatch(r"\+[0-9]{1,7}", str(value)):
            return datetime.now(UTC) + timedelta(seconds=int(value))
        try:
            point = datetime.fromisoformat(str(value))
        except ValueError:
            point = None
        if point is None or point.tzinfo is None:
            self.fail("must be such as 2026-01-31T12:00:00Z, or +60 for 60 s from now", param, ctx)
        return point
