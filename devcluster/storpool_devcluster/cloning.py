# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Making snapshots: the snapshot becomes the parent of its volume."""

import time
from dataclasses import replace

from storpool_devcluster.cluster import Cluster
from storpool_devcluster.gids import cluster_of
from storpool_devcluster.records import Volume


def make_snapshot(
    cluster: Cluster,
    volume: Volume,
    *,
    name: str = "",
    tags: dict[str, str] | None = None,
    auto_name: bool = False,
    bound: bool = False,
    transient: bool = False,
    delete_at_s: int = 0,
) -> Volume:
    """Inside a change. With `auto_name` the snapshot of a named volume is called `<volume>@<number>`.

    [I] That of an unnamed volume stays unnamed: `~<gid>@<number>` is no name that StorPool's client takes.
    The volume's tags are not handed on.
    """
    gid, number = cluster.state.new_gid(cluster_of(volume.gid))
    auto_name = auto_name and bool(volume.name)
    cluster.backing.clone(volume.gid, gid, volume.size_bytes)
    cluster.state.put(replace(volume, parent=gid))
    return cluster.state.put(
        replace(
            volume,
            gid=gid,
            number=number,
            created_s=int(time.time()),
            snapshot=True,
            name=f"{volume.name}@{number}" if auto_name else name,
            tags=tags or {},
            source=volume.gid,
            auto_name=auto_name,
            bound=bound,
            transient=transient,
            delete_at_s=delete_at_s,
        )
    )
