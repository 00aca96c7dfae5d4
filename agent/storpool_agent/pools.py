# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The storage pools that this host knows: its own, those of agent.toml, and those that were added by command."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock

import structlog
from pydantic import SecretStr

from storpool_agent import pool_url
from storpool_agent.errors import InvalidCommand, PoolConflict, PoolNotFound, TemplateInUse
from storpool_agent.host import Pool, StorPool
from storpool_agent.pool_file import KeptPool, PoolFile
from storpool_agent.settings import Pool as PoolSettings
from storpool_agent.settings import SettingsInvalid
from storpool_agent.storpool.address import Address
from storpool_agent.storpool_access import pool_token

log = structlog.get_logger()

Connect = Callable[[str, SecretStr], StorPool]
"""From the address of an API and its token; nothing is sent yet."""


class KnownPools:
    """Any thread may call it. What was added is kept in a file, and is known again after a restart."""

    def __init__(self, own: Pool, configured: Mapping[str, PoolSettings], file: PoolFile, connect: Connect) -> None:
        """Raises SettingsInvalid for a pool of agent.toml, or a file, that cannot be used."""
        self._own = own
        self._connect = connect
        self._file = file
        self._mutex = Lock()
        self._configured: dict[str, Pool] = {}
        for name, settings in configured.items():
            self._configured[name] = self._configure(name, settings)
        self._added: dict[str, Pool] = {}
        for name, kept in file.read().items():
            self._load(name, kept)

    def get(self, name: str | None) -> Pool:
        if name is None:
            return self._own
        pool = self._configured.get(name) or self._added.get(name)
        if pool is None:
            raise PoolNotFound(f"this host knows no pool {name}; addStoragePool makes it known", pool=name)
        return pool

    def all(self) -> Sequence[Pool]:
        with self._mutex:
            return (self._own, *self._others())

    def open(self, name: str, url: SecretStr, cluster_id: str | None) -> Pool:
        try:
            found = pool_url.parse(url)
        except ValueError as error:
            raise InvalidCommand(f"pool {name}: {error}", pool=name) from None
        storpool = self._connect(found.api, found.token)
        return Pool(name, found.api, storpool, found.template, cluster_id, found.token)

    def missing(self, pool: Pool) -> bool:
        with self._mutex:
            return self._missing(pool)

    def keep(self, pool: Pool) -> bool:
        with self._mutex:
            if not self._missing(pool):
                return False
            self._write({**self._added, pool.name: pool})
            return True

    def forget(self, name: str) -> bool:
        with self._mutex:
            if name in self._configured:
                raise PoolConflict(
                    f"pool {name} is one of agent.toml: take it out there, and restart the agent", pool=name
                )
            if name not in self._added:
                return False
            self._write({other: pool for other, pool in self._added.items() if other != name})
            return True

    def _missing(self, pool: Pool) -> bool:
        known = self._configured.get(pool.name) or self._added.get(pool.name)
        if known is not None:
            self._require_same(known, pool)
            return False
        user = _user_of(pool, self._others())
        if user is not None:
            raise TemplateInUse(
                f"pool {user} has template {pool.template} of {pool.api} already; use that pool, or another "
                "template: two pools of one template would each count the other's room",
                pool=pool.name,
                used_by=user,
            )
        return True

    def _others(self) -> list[Pool]:
        return [*self._configured.values(), *self._added.values()]

    def _require_same(self, known: Pool, pool: Pool) -> None:
        differing = _differing(known, pool)
        if differing:
            way = "change it there" if pool.name in self._configured else "remove it first, or take another name"
            where = " in agent.toml" if pool.name in self._configured else ""
            raise PoolConflict(
                f"pool {pool.name} is known{where} with another {', '.join(differing)}: {way}",
                pool=pool.name,
                differing=differing,
            )

    def _write(self, added: dict[str, Pool]) -> None:
        self._file.write(
            {
                name: KeptPool(api=pool.api, template=pool.template or "", cluster_id=pool.cluster_id, token=pool.token)
                for name, pool in added.items()
            }
        )
        self._added = added

    def _configure(self, name: str, settings: PoolSettings) -> Pool:
        token = pool_token(name, settings)
        try:
            api = str(Address.parse(settings.api))
        except ValueError as error:
            raise SettingsInvalid(f"pools.{name}.api: {error}") from error
        pool = Pool(name, api, self._connect(api, token), settings.template, settings.cluster_id, token)
        user = _user_of(pool, self._configured.values())
        if user is not None:
            raise SettingsInvalid(f"pools.{name}: pool {user} has the same api and template")
        return pool

    def _load(self, name: str, kept: KeptPool) -> None:
        """What agent.toml has now goes before what was added; it leaves the file with the next change."""
        if name in self._configured:
            log.warning("added pool passed over", pool=name, reason="agent.toml has a pool of this name")
            return
        storpool = self._connect(kept.api, kept.token)
        self._added[name] = Pool(name, kept.api, storpool, kept.template, kept.cluster_id, kept.token)


def _user_of(pool: Pool, others: Iterable[Pool]) -> str | None:
    same = (other.name for other in others if (other.api, other.template) == (pool.api, pool.template))
    return next(same, None)


def _differing(known: Pool, pool: Pool) -> list[str]:
    """What is not the same, by names that a sender knows; of tokens no more than that."""
    pairs = {
        "api": (known.api, pool.api),
        "template": (known.template, pool.template),
        "clusterId": (known.cluster_id, pool.cluster_id),
        "token": (known.token.get_secret_value(), pool.token.get_secret_value()),
    }
    return [name for name, (here, there) in pairs.items() if here != there]
