# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The storage pools of a host, in memory: each API is a FakeStorPool."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from fakes import FakeStorPool
from storpool_agent.errors import InvalidCommand, PoolConflict, PoolNotFound, TemplateInUse
from storpool_agent.host import Pool

OWN_API = "127.0.0.1:81"
_SETTINGS = re.compile(r"SP_API_HTTP=(?P<api>[^;]+);SP_AUTH_TOKEN=(?P<token>[^;]+);SP_TEMPLATE=(?P<template>[^;]+)")
_URL = re.compile(r"storpool://(?P<token>[^@]+)@(?P<api>[^/]+)/(?P<template>.+)")


@dataclass
class FakePools:
    """`own` is the host's API. The others are known by their address, and made when they are first opened."""

    own: FakeStorPool
    own_template: str | None = None
    apis: dict[str, FakeStorPool] = field(default_factory=dict[str, FakeStorPool])
    """By address: what a test wants to look into."""
    kept: dict[str, Pool] = field(default_factory=dict[str, Pool])
    _tokens: dict[str, str] = field(default_factory=dict[str, str])
    """Of pools that are kept, by name."""
    _opened: dict[str, str] = field(default_factory=dict[str, str])
    """As `_tokens`, of those that were opened last."""

    def get(self, name: str | None) -> Pool:
        if name is None:
            return Pool("", OWN_API, self.own, self.own_template, None)
        if name not in self.kept:
            raise PoolNotFound(f"this host knows no pool {name}", pool=name)
        return self.kept[name]

    def all(self) -> Sequence[Pool]:
        return (self.get(None), *self.kept.values())

    def open(self, name: str, url: SecretStr, cluster_id: str | None) -> Pool:
        found = _SETTINGS.fullmatch(url.get_secret_value()) or _URL.fullmatch(url.get_secret_value())
        if found is None:
            raise InvalidCommand("url: not that of a pool")
        self._opened[name] = found["token"]
        storpool = self.own if found["api"] == OWN_API else self.apis.setdefault(found["api"], FakeStorPool())
        return Pool(name, found["api"], storpool, found["template"], cluster_id)

    def keep(self, pool: Pool) -> bool:
        token = self._opened.get(pool.name, "")
        if (known := self.kept.get(pool.name)) is not None:
            if _address(known) != _address(pool) or self._tokens[pool.name] != token:
                raise PoolConflict(f"pool {pool.name} is known with other settings", pool=pool.name)
            return False
        for other in self.all():
            if (other.api, other.template) == (pool.api, pool.template):
                raise TemplateInUse(f"{pool.template} is that of pool {other.name}", pool=other.name)
        self.kept[pool.name], self._tokens[pool.name] = pool, token
        return True

    def forget(self, name: str) -> bool:
        return self.kept.pop(name, None) is not None


def _address(pool: Pool) -> tuple[str, str | None, str | None]:
    return pool.api, pool.template, pool.cluster_id
