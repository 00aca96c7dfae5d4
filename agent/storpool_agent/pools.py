# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The storage pools that this host knows: its own, and those that were added."""

from collections.abc import Sequence

from pydantic import SecretStr

from storpool_agent.errors import PoolNotFound
from storpool_agent.host import Pool


class KnownPools:
    """Any thread may call it."""

    def __init__(self, own: Pool) -> None:
        self._own = own

    def get(self, name: str | None) -> Pool:
        if name is None:
            return self._own
        raise PoolNotFound(f"this host knows no pool {name}; addStoragePool makes it known", pool=name)

    def all(self) -> Sequence[Pool]:
        return (self._own,)

    def open(self, name: str, url: SecretStr, cluster_id: str | None) -> Pool:
        raise NotImplementedError

    def keep(self, pool: Pool) -> bool:
        raise NotImplementedError

    def forget(self, name: str) -> bool:
        raise NotImplementedError
