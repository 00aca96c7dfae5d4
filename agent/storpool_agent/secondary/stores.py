# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which stores this host's settings allow."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storpool_agent.errors import SecondaryNotAllowed
from storpool_agent.settings import Secondary


@dataclass(frozen=True)
class NfsExport:
    """`nfs://server/export`."""

    server: str
    source: str
    """As mount(8) and mountinfo have it: `server:/export`."""


@dataclass(frozen=True)
class LocalDirectory:
    """`file:///directory`."""

    allowed: str
    """The directory of the settings that it is in, all symbolic links resolved."""
    parts: Sequence[str]
    """The way from there, likewise."""


def find(store: str, settings: Secondary) -> NfsExport | LocalDirectory:
    """Raises SecondaryNotAllowed. `store` is a StoreUrl of the contract, which has no `..` in it."""
    scheme, _, rest = store.partition("://")
    if scheme == "nfs":
        return _export(store, rest, settings.nfs_servers)
    return _directory(store, rest, settings.directories)


def _export(store: str, rest: str, servers: Sequence[str] | None) -> NfsExport:
    server, _, export = rest.partition("/")
    if servers is not None and _bare(server) not in map(_bare, servers):
        raise SecondaryNotAllowed(
            f"{server} is not in secondary.nfs_servers of this host's settings", store=store, setting="nfs_servers"
        )
    return NfsExport(server, f"{server}:/{export}")


def _bare(server: str) -> str:
    """An IPv6 address with and without brackets is the same server."""
    return server.strip("[]").lower()


def _directory(store: str, asked: str, allowed: Sequence[Path]) -> LocalDirectory:
    """Both sides are resolved before they are compared: a symbolic link must not lead out."""
    resolved = Path(os.path.realpath(asked))
    for each in map(os.path.realpath, allowed):
        if resolved.is_relative_to(each):
            return LocalDirectory(each, resolved.relative_to(each).parts)
    raise SecondaryNotAllowed(
        f"{asked} is not below a directory of secondary.directories of this host's settings",
        store=store,
        setting="directories",
    )
