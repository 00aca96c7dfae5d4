# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What fault rules let happen after an attach: late, wrong and lost links, failing devices, clients that lag."""

from storpool_devcluster.cluster import Cluster
from storpool_devcluster.effects import Effects
from storpool_devcluster.reassignment import Outcome
from storpool_devcluster.records import Volume


def begin(cluster: Cluster, outcome: Outcome, effects: Effects) -> None:
    if effects.config_lag_s:
        cluster.clients.lag(outcome.clients, effects.config_lag_s)
    for volume, client in outcome.attached:
        _after_attach(cluster, volume, client, effects)


def _after_attach(cluster: Cluster, volume: Volume, client: int, effects: Effects) -> None:
    later, devices = cluster.later, cluster.devices
    if effects.wrong_link_s:
        devices.link_wrongly(volume, client)
        later.after(effects.wrong_link_s, lambda: devices.link(volume, client))
    elif effects.link_delay_s:
        later.after(effects.link_delay_s, lambda: devices.link(volume, client))
    if effects.link_lost_after_s is not None:
        later.after(effects.link_lost_after_s, lambda: devices.unlink(volume.gid, client))
    if effects.device_errors_after_s is not None:
        later.after(effects.device_errors_after_s, lambda: devices.starve(volume.gid, client))
