# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the service `storpool_qos` does about once a minute: set each volume's limits by its tag `qc`.

It overrides limits that were set by hand, so a tier is changed by the tag alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storpool_devcluster.cluster import Cluster
    from storpool_devcluster.records import Limit

TAG = "qc"


@dataclass(frozen=True, slots=True)
class Tier:
    iops: Limit = "-"
    bw: Limit = "-"
    """KiB/s, as everywhere in the API."""


def enforce(cluster: Cluster) -> None:
    tiers = cluster.options.tiers
    with cluster.state.change():
        for volume in cluster.state.volumes.all():
            tier = tiers.get(volume.tags.get(TAG, ""))
            if tier is None or volume.snapshot:
                continue
            policy = replace(volume.policy, iops=tier.iops, bw=tier.bw)
            if policy != volume.policy:
                cluster.state.put(replace(volume, policy=policy))
