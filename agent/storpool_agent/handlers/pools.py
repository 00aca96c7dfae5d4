# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""addStoragePool, removeStoragePool, poolStats, hostInfo."""

from storpool_agent.attempt import Attempt
from storpool_agent.host import Host
from storpool_commands.pools import (
    AddedStoragePool,
    AddStoragePool,
    GetHostInfo,
    GetPoolStats,
    HostInfo,
    PoolStats,
    RemovedStoragePool,
    RemoveStoragePool,
)


def add(command: AddStoragePool, host: Host, attempt: Attempt) -> AddedStoragePool:
    """Know a pool, after proving it."""
    raise NotImplementedError


def remove(command: RemoveStoragePool, host: Host, attempt: Attempt) -> RemovedStoragePool:
    """Forget a pool."""
    raise NotImplementedError


def stats(command: GetPoolStats, host: Host, attempt: Attempt) -> PoolStats:
    """The room in pools."""
    raise NotImplementedError


def info(command: GetHostInfo, host: Host, attempt: Attempt) -> HostInfo:
    """What this host is."""
    raise NotImplementedError
