# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What fault rules let happen after an attach: late, wrong and lost links, failing devices, clients that lag."""

from storpool_devcluster.cluster import Cluster
from storpool_devcluster.effects import Effects
from storpool_devcluster.reassignment import Outcome


def begin(cluster: Cluster, outcome: Outcome, effects: Effects) -> None:
    if effects.config_lag_s:
        cluster.clients.lag(outcome.clients, effects.config_lag_s)
    for volume, client in outcome.attached:
        _after_attach(cluster, volume.gid, client, effects)


def _after_attach(cluster: Cluster, gid: str, client: int, effects: Effects) -> None:
    if effects.wrong_link_s:
        link_wrongly(cluster, gid, client)
        cluster.later.after(effects.wrong_link_s, lambda: link(cluster, gid, client))
    elif effects.link_delay_s:
        cluster.later.after(effects.link_delay_s, lambda: link(cluster, gid, client))
    if effects.link_lost_after_s is not None:
        cluster.later.after(effects.link_lost_after_s, lambda: lose_link(cluster, gid, client))
    if effects.device_errors_after_s is not None:
        cluster.later.after(effects.device_errors_after_s, lambda: fail_device(cluster, gid, client))


def link(cluster: Cluster, gid: str, client: int) -> None:
    """Under the volume's name of that time."""
    with cluster.state.change():
        volume = cluster.state.volumes.get(gid)
        if volume is not None:
            cluster.devices.link(volume, client)


def link_wrongly(cluster: Cluster, gid: str, client: int) -> None:
    with cluster.state.change():
        volume = cluster.state.volumes.get(gid)
        if volume is not None:
            cluster.devices.link_wrongly(volume, client)


def lose_link(cluster: Cluster, gid: str, client: int) -> None:
    with cluster.state.change():
        cluster.devices.unlink(gid, client)


def fail_device(cluster: Cluster, gid: str, client: int) -> None:
    with cluster.state.change():
        cluster.devices.starve(gid, client)


def take_capacity(cluster: Cluster, gid: str) -> None:
    with cluster.state.change():
        cluster.devices.take_capacity(gid)
