# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPool's own configuration of a host: /etc/storpool.conf and /etc/storpool.conf.d/*.conf.

Rules as StorPool's tools have them: files in order of their names, later ones win; in each file the section named
after the host wins over what stands before any section; a value is the rest of its line, quotes and `#` included.
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 81


class ConfError(Exception):
    """A file that cannot be used; the message names it."""


@dataclass(frozen=True)
class StorPoolConf:
    """What the files say. What they leave out and StorPool has no default for is None."""

    files: tuple[Path, ...]
    """Those that were read, in order; none when this is no StorPool host."""
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    token: SecretStr | None = None
    our_id: int | None = None
    cluster_id: str | None = None

    @property
    def api(self) -> str:
        return f"{self.host}:{self.port}"


def read_conf(root: Path = Path("/etc"), node: str | None = None) -> StorPoolConf:
    """Read the files under `root` for the host named `node` (default: this one). Raises ConfError."""
    section = platform.node() if node is None else node
    files = tuple(_files(root))
    values: dict[str, str] = {}
    for file in files:
        common, own = _read(file, section)
        values |= common | own
    token, cluster_id = values.get("SP_AUTH_TOKEN"), values.get("SP_CLUSTER_ID")
    port = _number(values, "SP_API_HTTP_PORT", root)
    return StorPoolConf(
        files=files,
        host=values.get("SP_API_HTTP_HOST") or DEFAULT_HOST,
        port=DEFAULT_PORT if port is None else port,
        token=SecretStr(token) if token else None,
        our_id=_number(values, "SP_OURID", root),
        cluster_id=cluster_id.lower() if cluster_id else None,
    )


def _files(root: Path) -> Iterator[Path]:
    main = root / "storpool.conf"
    if main.is_file():
        yield main
    for file in sorted((root / "storpool.conf.d").glob("*.conf")):
        if file.is_file() and not file.name.startswith("."):
            yield file


def _read(file: Path, section: str) -> tuple[dict[str, str], dict[str, str]]:
    """What stands before any section, and what stands in the given one."""
    common: dict[str, str] = {}
    own: dict[str, str] = {}
    current: dict[str, str] | None = common
    for number, line in enumerate(_lines(file), start=1):
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        if text[0] == "[":
            current = own if text == f"[{section}]" else None
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfError(f"{file} line {number} is neither a comment, a [section] nor NAME=value")
        if current is not None:
            current[key.strip()] = value.strip()
    return common, own


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfError(f"{file} cannot be read: {error}") from error


def _number(values: dict[str, str], name: str, root: Path) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise ConfError(f"{name} in {root}/storpool.conf or {root}/storpool.conf.d is not a number")
    return int(text)
