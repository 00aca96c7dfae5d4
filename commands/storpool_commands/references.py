# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The one parser of references to volumes and snapshots.

Four spellings are known: `/dev/storpool/<name>`, `/dev/storpool-byid/<global id>`, `~<global id>` and
`<name>`. Nothing else gets further: not another directory, not `.` or `..`, not a newline.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

NAME_DIRECTORY = "/dev/storpool/"
ID_DIRECTORY = "/dev/storpool-byid/"
MAX_NAME = 199
"""Longest name (StorPool API reference: shorter than 200)."""

_GLOBAL_ID = re.compile(r"[a-z0-9]+\.[a-z0-9]+\.[a-z0-9]+")
_NAME = re.compile(r"[#*]?[A-Za-z0-9_:][A-Za-z0-9_.:@-]*")
_RESERVED = frozenset({"list", "status"})
"""Words that StorPool's own command line keeps for itself, so no object may bear them as a name."""

_WHAT = "must be /dev/storpool/<name>, /dev/storpool-byid/<global id>, ~<global id> or a StorPool name"


@dataclass(frozen=True)
class Reference:
    """A volume or snapshot as a sender named it: by global id, or by a name, which may move to another."""

    kind: Literal["id", "name"]
    value: str
    """The global id without its tilde, or the name."""

    def __str__(self) -> str:
        """The spelling that the StorPool API takes in paths and bodies."""
        return f"~{self.value}" if self.kind == "id" else self.value


def parse(text: str) -> Reference:
    """Read any of the four spellings.

    Raises ValueError for everything else; the message does not repeat the text.
    """
    if text.startswith(ID_DIRECTORY):
        return _by_id(text.removeprefix(ID_DIRECTORY))
    name = text.removeprefix(NAME_DIRECTORY)
    return _by_id(name[1:]) if name.startswith("~") else _by_name(name)


def is_global_id(text: str) -> bool:
    """Without a tilde."""
    return len(text) <= MAX_NAME and _GLOBAL_ID.fullmatch(text) is not None


def _by_id(text: str) -> Reference:
    if not is_global_id(text):
        raise ValueError(_WHAT)
    return Reference("id", text)


def _by_name(text: str) -> Reference:
    if len(text) > MAX_NAME or text in _RESERVED or not _NAME.fullmatch(text):
        raise ValueError(_WHAT)
    return Reference("name", text)


def _canonical(text: str) -> str:
    return str(parse(text))


def _device_path(text: str) -> str:
    if not text.startswith((ID_DIRECTORY, NAME_DIRECTORY)):
        raise ValueError(_WHAT)
    parse(text)
    return text


ObjectRef = Annotated[str, Field(max_length=256), AfterValidator(_canonical)]
"""A volume or snapshot in any spelling; kept as `~<global id>` or `<name>`."""

DevicePath = Annotated[str, Field(max_length=256), AfterValidator(_device_path)]
"""A volume as the path of its device: `/dev/storpool/<name>` or `/dev/storpool-byid/<global id>`."""
