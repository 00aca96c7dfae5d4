# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What goes by itself: volumes and snapshots at their time, and snapshots that nothing needs any more."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from storpool_devcluster.records import Volume

if TYPE_CHECKING:
    from storpool_devcluster.cluster import Cluster


def remove(cluster: Cluster, volume: Volume) -> None:
    """Forget it and its data, and the parent that lived only for its sake."""
    cluster.state.volumes.drop(volume.gid)
    cluster.state.afterwards(lambda: cluster.backing.delete(volume.gid))
    parent = cluster.state.volumes.get(volume.parent)
    if parent is not None:
        collect(cluster, parent)


def collect(cluster: Cluster, snapshot: Volume) -> None:
    """Remove a deleted or bound snapshot that has no children and is attached nowhere."""
    if not (snapshot.deleted or snapshot.bound):
        return
    if not cluster.state.children(snapshot.gid) and not cluster.state.attachments_of(snapshot.gid):
        remove(cluster, snapshot)


def delete_snapshot(cluster: Cluster, snapshot: Volume) -> None:
    """With children it stays, marked as deleted, until the last of them is gone."""
    if cluster.state.children(snapshot.gid):
        cluster.state.put(replace(snapshot, deleted=True, delete_at_s=0))
    else:
        remove(cluster, snapshot)


def expire(cluster: Cluster) -> None:
    """Delete what has reached its targetDeleteDate. An attached or exported snapshot is looked at again later."""
    now = time.time()
    for snapshot in cluster.state.volumes.all():
        if snapshot.snapshot and not snapshot.deleted and 0 < snapshot.delete_at_s <= now:
            with cluster.state.change():
                current = cluster.state.volumes.get(snapshot.gid)
                if current == snapshot and not snapshot.exported_to and not cluster.state.attachments_of(snapshot.gid):
                    delete_snapshot(cluster, snapshot)
