# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The storage pools that a host knows, as the handlers see them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from storpool_agent.host.storpool import StorPool


@dataclass(frozen=True)
class Pool:
    """An API of StorPool, and what is made there when a command says no more."""

    name: str
    """Empty for the host's own."""
    api: str
    storpool: StorPool
    template: str | None
    cluster_id: str | None
    token: SecretStr = field(default=SecretStr(""))
    """What its API takes; empty for the host's own, which is never compared."""


class Pools(Protocol):
    """The storage pools that this host knows."""

    def get(self, name: str | None) -> Pool:
        """None is the host's own. Raises PoolNotFound."""
        ...

    def all(self) -> Sequence[Pool]:
        """The host's own first."""
        ...

    def open(self, name: str, url: SecretStr, cluster_id: str | None) -> Pool:
        """A pool that is not kept yet. Raises InvalidCommand for a URL that is none, without showing it."""
        ...

    def missing(self, pool: Pool) -> bool:
        """Whether `keep` would be news. Raises PoolConflict, TemplateInUse."""
        ...

    def keep(self, pool: Pool) -> bool:
        """Know it from now on, also after a restart; false when it was known. Raises as `missing`."""
        ...

    def forget(self, name: str) -> bool:
        """False when it was not known. Raises PoolConflict for a pool of agent.toml."""
        ...
