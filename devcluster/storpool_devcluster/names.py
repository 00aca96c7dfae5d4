# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The names StorPool allows, as types of request fields.

[I] The patterns are those of the vendor's client; the server is assumed to have the same. `.` and `..` pass them and
are refused here, because a name becomes a file name under /dev/storpool.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from storpool_devcluster.answers import invalid

SECTOR_BYTES = 512
GLOBAL_ID = re.compile(r"~[a-z0-9]+\.[a-z0-9]+\.[a-z0-9]+")
_VOLUME_NAME = r"#?[A-Za-z0-9_\-.:]+"
_SNAPSHOT_NAME = r"\*?[A-Za-z0-9_\-.:@]+"
_REFERENCE = re.compile(f"{_VOLUME_NAME}|{_SNAPSHOT_NAME}|{GLOBAL_ID.pattern}")
_RESERVED = frozenset({"list", "status", ".", ".."})


def _matching(pattern: str, *, may_be_empty: bool = False) -> AfterValidator:
    expression = re.compile(pattern)

    def check(value: str) -> str:
        if may_be_empty and not value:
            return value
        if value in _RESERVED or len(value) > 199 or not expression.fullmatch(value):
            raise ValueError(f"must match {pattern}, have at most 199 characters and be no reserved word")
        return value

    return AfterValidator(check)


def _whole_sectors(value: int) -> int:
    if value % SECTOR_BYTES:
        raise ValueError(f"must be a multiple of {SECTOR_BYTES}")
    return value


VolumeName = Annotated[str, _matching(_VOLUME_NAME, may_be_empty=True)]
"""Of a new volume; empty makes an unnamed one."""

SnapshotName = Annotated[str, _matching(_SNAPSHOT_NAME, may_be_empty=True)]
TemplateName = Annotated[str, _matching(r"[A-Za-z0-9_\-]+")]
PlacementName = Annotated[str, _matching(r"[A-Za-z0-9_\-]+")]
Reference = Annotated[str, _matching(_REFERENCE.pattern)]
"""An existing volume or snapshot: its name, or its global id after a tilde."""

TagKey = Annotated[str, _matching(_VOLUME_NAME.removeprefix("#?"))]
TagValue = Annotated[str, _matching(_VOLUME_NAME.removeprefix("#?"), may_be_empty=True)]
Tags = dict[TagKey, TagValue]
Size = Annotated[int, Field(ge=1), AfterValidator(_whole_sectors)]
ClientId = Annotated[int, Field(ge=1, le=4095)]
Seconds = Annotated[int, Field(ge=0)]


def check_reference(text: str) -> str:
    """A reference from a path, where no model looks at it."""
    if text in _RESERVED or len(text) > 199 or not _REFERENCE.fullmatch(text):
        raise invalid(f"'{text}' is not a name or global id")
    return text
