# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The host of one dry run."""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import SecretStr

from storpool_agent.dry_run.devices import DryDevices
from storpool_agent.dry_run.domains import DryDomains
from storpool_agent.dry_run.images import DryImages
from storpool_agent.dry_run.secondary import DrySecondary
from storpool_agent.dry_run.storpool import DryStorPool
from storpool_agent.host import Host, Pool, Pools


def dry(host: Host) -> Host:
    """The same host, for one request that is to change nothing."""
    storpool = DryStorPool(host.storpool)
    devices = DryDevices(host.devices)
    return replace(
        host,
        storpool=storpool,
        devices=devices,
        domains=DryDomains(host.domains, devices),
        pools=DryPools(host.pools, storpool),
        images=DryImages(host.images),
        secondary=DrySecondary(host.secondary),
    )


class DryPools:
    """Knows what is known, and learns nothing."""

    def __init__(self, real: Pools, own: DryStorPool) -> None:
        self._real = real
        self._clusters = {"": own}

    def get(self, name: str | None) -> Pool:
        return self._dry(self._real.get(name))

    def all(self) -> Sequence[Pool]:
        return [self._dry(pool) for pool in self._real.all()]

    def open(self, name: str, url: SecretStr, cluster_id: str | None) -> Pool:
        return self._real.open(name, url, cluster_id)

    def keep(self, pool: Pool) -> bool:
        return self._real.missing(pool)

    def forget(self, name: str) -> bool:
        return any(pool.name == name for pool in self._real.all())

    def missing(self, pool: Pool) -> bool:
        return self._real.missing(pool)

    def _dry(self, pool: Pool) -> Pool:
        """One imagined cluster for a pool, however often it is asked for: it remembers."""
        if pool.name not in self._clusters:
            self._clusters[pool.name] = DryStorPool(pool.storpool)
        return replace(pool, storpool=self._clusters[pool.name])
