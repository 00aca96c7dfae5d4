# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""addStoragePool, removeStoragePool, poolStats, hostInfo."""

from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, LibvirtUnavailable, TemplateNotFound
from storpool_agent.host import Host, Pool
from storpool_agent.storpool.model import TemplateSpace
from storpool_commands.envelope import PROTOCOL
from storpool_commands.pools import (
    AddedStoragePool,
    AddStoragePool,
    GetHostInfo,
    GetPoolStats,
    HostInfo,
    PoolSpace,
    PoolStats,
    RemovedStoragePool,
    RemoveStoragePool,
    StorPoolClient,
)

API_TIMEOUT_S = 60.0
MAX_NAMES = 20  # of the templates that are there, in an error: the list is for a person


def add(command: AddStoragePool, host: Host, attempt: Attempt) -> AddedStoragePool:
    """Know a pool, after proving its API, token and template."""
    deadline = Deadline.after(API_TIMEOUT_S)
    with attempt.step("parse"):
        pool = host.pools.open(command.name, command.url, command.cluster_id)
    with attempt.step("connect"):
        space = _space_of(pool, deadline)
    with attempt.step("keep", changes=True) as step:
        added_now = host.pools.keep(pool)
        if not added_now:
            step.already()
    return AddedStoragePool(pool=_shown(pool, space), added_now=added_now)


def remove(command: RemoveStoragePool, host: Host, attempt: Attempt) -> RemovedStoragePool:
    """Forget a pool. Nobody asks its API: it may be gone for good."""
    with attempt.step("forget", changes=True) as step:
        removed_now = host.pools.forget(command.name)
        if not removed_now:
            step.already()
    return RemovedStoragePool(removed_now=removed_now)


def stats(command: GetPoolStats, host: Host, attempt: Attempt) -> PoolStats:
    """The room in pools. The host's own API has no template of its own: every one of it is listed."""
    deadline = Deadline.after(API_TIMEOUT_S)
    pools = host.pools.all() if command.pool is None else [host.pools.get(command.pool)]
    found: list[PoolSpace] = []
    for pool in pools:
        with attempt.step(f"ask {pool.name or 'own'}"):
            found += _spaces(pool, deadline)
    return PoolStats(pools=found)


def info(_command: GetHostInfo, host: Host, attempt: Attempt) -> HostInfo:
    """What this host is. A libvirt that cannot be reached is part of the answer, not a failure."""
    deadline = Deadline.after(API_TIMEOUT_S)
    with attempt.step("storpool"):
        services = host.storpool.services(deadline)
    libvirt, qemu = None, None
    with attempt.step("libvirt"), suppress(LibvirtUnavailable):
        libvirt, qemu = host.domains.versions(deadline)
    ours = [one for one in services.clients if one.client == host.storpool.our_id]
    return HostInfo(
        host=host.name,
        version=version("storpool-agent"),
        protocol=PROTOCOL,
        our_id=host.storpool.our_id,
        cluster_id=host.cluster_id,
        location=host.cluster_id.partition(".")[0] if host.cluster_id else None,
        cluster_status=services.cluster_status,
        client=StorPoolClient(client=ours[0].client, status=ours[0].status, version=ours[0].version) if ours else None,
        libvirt=libvirt,
        qemu=qemu,
        pools=[pool.name for pool in host.pools.all() if pool.name],
    )


def _spaces(pool: Pool, deadline: Deadline) -> list[PoolSpace]:
    """Raises the AgentError of a pool that cannot be asked, with its name: others may have the same API."""
    try:
        spaces = pool.storpool.templates(deadline) if pool.template is None else [_space_of(pool, deadline)]
    except AgentError as error:
        name = f"pool {pool.name}" if pool.name else "the host's own pool"
        raise type(error)(f"{name}: {error}", **{**error.facts, "pool": pool.name}) from error
    return [_shown(pool, space) for space in spaces]


def _space_of(pool: Pool, deadline: Deadline) -> TemplateSpace:
    """Of the pool's own template. Raises TemplateNotFound."""
    spaces = pool.storpool.templates(deadline)
    for space in spaces:
        if space.name == pool.template:
            return space
    raise TemplateNotFound(
        f"StorPool at {pool.api} has no template {pool.template}; it has {_listed(spaces)}",
        pool=pool.name,
        api=pool.api,
        template=pool.template,
        templates=[space.name for space in spaces],
    )


def _listed(spaces: Sequence[TemplateSpace]) -> str:
    names = [space.name for space in spaces]
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more if names else "none"


def _shown(pool: Pool, space: TemplateSpace) -> PoolSpace:
    return PoolSpace(
        name=pool.name,
        api=pool.api,
        template=space.name,
        capacity_bytes=space.capacity_bytes,
        free_bytes=space.free_bytes,
        used_bytes=max(space.capacity_bytes - space.free_bytes, 0),
        volumes=space.volumes,
        snapshots=space.snapshots,
    )
