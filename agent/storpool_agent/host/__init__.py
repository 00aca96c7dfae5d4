# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a handler acts on: the sides of a host, as the handlers see them.

The adapters below implement these protocols without importing them; a fake in the tests does too, and one
contract suite runs both.
"""

from dataclasses import dataclass

from storpool_agent.host.devices import Devices
from storpool_agent.host.domains import Domains
from storpool_agent.host.images import Images
from storpool_agent.host.keys import Keys
from storpool_agent.host.pools import Pool, Pools
from storpool_agent.host.secondary import Secondary
from storpool_agent.host.storpool import StorPool

__all__ = ["Devices", "Domains", "Host", "Images", "Keys", "Pool", "Pools", "Secondary", "StorPool"]


@dataclass(frozen=True)
class Host:
    """One of each."""

    name: str
    storpool: StorPool
    """The host's own: where its volumes are attached."""
    devices: Devices
    domains: Domains
    pools: Pools
    images: Images
    secondary: Secondary
    keys: Keys
    cluster_id: str | None = None
    """SP_CLUSTER_ID of the host's settings."""
