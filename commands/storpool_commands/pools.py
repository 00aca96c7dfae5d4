# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Storage pools: where a host finds the API of a StorPool cluster, and with which template."""

from typing import Annotated, Literal

from pydantic import Field

from storpool_commands.wire import AnswerModel, ClusterId, CommandModel, PoolName, Secret


class PoolSpace(AnswerModel):
    """A pool and its room, as VolumeTemplatesStatus has it."""

    name: str
    """Empty for the API of the host's own settings."""
    api: str
    template: str
    capacity_bytes: int
    free_bytes: int
    used_bytes: int
    volumes: int
    snapshots: int


class AddedStoragePool(AnswerModel):
    """A pool that the host knows, its token and template proven against the live API."""

    command: Literal["addStoragePool"] = "addStoragePool"
    pool: PoolSpace
    added_now: bool
    """False when the host knew the same pool before."""


class AddStoragePool(CommandModel[AddedStoragePool]):
    """Make a pool known to the host; it is kept over restarts, its token readable by the agent alone.

    `storpool-unauthorized`: the token is wrong. `template-not-found`. `template-in-use`: another pool has the same
    API and template. `pool-conflict`: the host knows a pool of this name with another API, template or token.
    The request is stored without the URL: one that the agent did not survive is answered `secret-not-kept`.
    """

    command: Literal["addStoragePool"] = "addStoragePool"
    name: PoolName
    url: Annotated[Secret, Field(max_length=1024)]
    """`SP_API_HTTP=<host>:<port>;SP_AUTH_TOKEN=<token>;SP_TEMPLATE=<template>`, or
    `storpool://<token>@<host>:<port>/<template>`."""
    cluster_id: ClusterId | None = None
    """Where new volumes are made in a multi-cluster. Default: the cluster that the API belongs to."""


class RemovedStoragePool(AnswerModel):
    """A pool that the host does not know."""

    command: Literal["removeStoragePool"] = "removeStoragePool"
    removed_now: bool


class RemoveStoragePool(CommandModel[RemovedStoragePool]):
    """Forget a pool and its token. Its volumes stay; one that is not known is a success."""

    command: Literal["removeStoragePool"] = "removeStoragePool"
    name: PoolName


class PoolStats(AnswerModel):
    """The room in the host's pools."""

    command: Literal["poolStats"] = "poolStats"
    pools: list[PoolSpace]


class GetPoolStats(CommandModel[PoolStats]):
    """Ask for the room in one pool, or in all of them."""

    command: Literal["poolStats"] = "poolStats"
    pool: PoolName | None = None


class StorPoolClient(AnswerModel):
    """A host in the cluster, as ServicesList has it."""

    client: int
    status: str
    version: str | None


class HostInfo(AnswerModel):
    """What a host is."""

    command: Literal["hostInfo"] = "hostInfo"
    host: str
    version: str
    """Of the agent."""
    protocol: int
    our_id: int
    """The host's StorPool client (SP_OURID)."""
    cluster_id: str | None
    """SP_CLUSTER_ID of the host's settings."""
    location: str | None
    """The first word of the cluster id."""
    cluster_status: str
    client: StorPoolClient | None
    """Null when the cluster does not know this client."""
    libvirt: str | None
    """Its version; null when it cannot be reached."""
    qemu: str | None
    pools: list[str]
    """Names of the pools that were added."""


class GetHostInfo(CommandModel[HostInfo]):
    """Ask what a host is."""

    command: Literal["hostInfo"] = "hostInfo"
