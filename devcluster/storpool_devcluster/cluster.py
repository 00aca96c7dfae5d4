# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The cluster as the calls see it, and its life: start like a host that reboots, stop without a trace in /dev."""

import fcntl
import os
import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from storpool_devcluster import expiry, pool, qos, stale
from storpool_devcluster.backing import Backing
from storpool_devcluster.clients import Clients
from storpool_devcluster.devices import Devices
from storpool_devcluster.exports import ExportMaker, FileExports, LoopExports
from storpool_devcluster.later import Later
from storpool_devcluster.loop import LoopControl
from storpool_devcluster.qos import Tier
from storpool_devcluster.records import Template
from storpool_devcluster.retirement import Retirement
from storpool_devcluster.roots import DeviceRoot
from storpool_devcluster.state import State

EXPIRY_LOOK_S = 1.0


@dataclass(frozen=True)
class Options:
    """How this cluster behaves; each inferred behaviour of StorPool is a switch here."""

    state: Path
    clients: dict[int, Path | None]
    """Client id to its device directory; None: bookkeeping only."""
    cluster_id: str = "d.n"
    cluster_name: str = "dev"
    remote_clusters: dict[str, str] = field(default_factory=dict[str, str])
    """Names by id: other clusters of the multi-cluster, which RemoteCommand reaches."""
    templates: tuple[str, ...] = ("dev",)
    devices: Literal["loop", "files", "none"] = "loop"
    pool_bytes: int = pool.DEFAULT_POOL_BYTES
    strict: bool = True
    """[X] Refuse JSON keys that StorPool's documentation does not know."""
    error_status: int = 500
    """[I] HTTP status of an error envelope: 500 or 200."""
    unnamed_links: bool = True
    """[I] Link unnamed volumes as storpool/~<gid> too."""
    busy_udev: bool = False
    """Let a udev worker that probes a device make its detach busy, as it happens on a real host."""
    revert_attached: bool = False
    """[I] Allow VolumeRevert of an attached volume."""
    revert_resets_limits: bool = False
    """[I] VolumeRevert gives the volume the limits of its template."""
    tiers: dict[str, Tier] = field(default_factory=dict[str, Tier])
    """By the value of the tag `qc`."""
    qos_interval_s: float = 60.0

    @property
    def clusters(self) -> dict[str, str]:
        """Names by id, the one that serves the API first."""
        return {self.cluster_id: self.cluster_name, **self.remote_clusters}


@dataclass(frozen=True)
class Cluster:
    options: Options
    state: State
    backing: Backing
    devices: Devices
    clients: Clients
    later: Later
    closing: ExitStack
    started_s: int = field(default_factory=lambda: int(time.time()))

    def place(self, client: int) -> None:
        """Make the devices that the configuration says the client has."""
        with self.state.change():
            for attachment in self.state.attachments.all():
                volume = self.state.volumes.get(attachment.gid)
                if attachment.client != client or volume is None or self.devices.placed(attachment.gid, client):
                    continue
                wanted = attachment.position
                used = self.state.positions(client) - {wanted}
                position = self.devices.attach(volume, client, attachment.rights, used, prefer=wanted)
                if position != wanted:
                    self.state.attach(replace(attachment, position=position))

    def stop(self) -> None:
        """End all waits, then take every device down. The state stays."""
        self.clients.stop()
        self.closing.close()


def start(options: Options) -> Cluster:
    """Bring up what the state directory says, after removing what a killed process left."""
    options.state.mkdir(parents=True, exist_ok=True)
    with ExitStack() as closing:
        closing.callback(os.close, _lock(options.state))
        state = State(options.state / "state.sqlite", options.cluster_id)
        closing.callback(state.close)
        roots = {
            client: DeviceRoot(path, options.unnamed_links)
            for client, path in options.clients.items()
            if path is not None and options.devices != "none"
        }
        for root in roots.values():
            closing.callback(root.leave)
        backing, maker = _storage(options, list(roots.values()), closing)
        backing.reconcile({volume.gid: volume.size_bytes for volume in state.volumes.all()})
        devices = Devices(roots, maker)
        closing.callback(devices.remove_all)
        later = Later()
        closing.callback(later.stop)
        clients = Clients(options.clients)
        cluster = Cluster(options, state, backing, devices, clients, later, closing.pop_all())
    _add_templates(cluster)
    for client in options.clients:
        cluster.place(client)
    later.every(EXPIRY_LOOK_S, lambda: expiry.expire(cluster))
    if options.tiers:
        later.every(options.qos_interval_s, lambda: qos.enforce(cluster))
    return cluster


def _lock(state: Path) -> int:
    fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _storage(options: Options, roots: list[DeviceRoot], closing: ExitStack) -> tuple[Backing, ExportMaker | None]:
    tag = _tag(options.state)
    for root in roots:
        root.prepare()
    stale.drop_nodes(roots, tag)
    if options.devices != "loop":
        directory = pool.open_directory(options.state, tag)
        closing.callback(directory.close)
        files = FileExports(options.state / tag) if options.devices == "files" else None
        return Backing(directory), files
    for root in roots:
        root.require_device_nodes()
    control = LoopControl()
    closing.callback(control.close)
    closing.callback(control.sweep)
    stale.drop_devices(control, tag)
    opened = pool.open_directory(options.state, tag)
    if not opened.clones:
        opened.close()
        opened = pool.open_image(options.state, tag, options.pool_bytes, control)
    closing.callback(opened.close)
    retirement = Retirement(control)
    closing.callback(retirement.stop)
    backing = Backing(opened)
    return backing, LoopExports(backing, control, retirement, busy_udev=options.busy_udev)


def _tag(state: Path) -> str:
    """A name of this state directory that the kernel shows in the path of each backing file."""
    file = state / "tag"
    if not file.exists():
        file.write_text(f"storpool-devcluster-{secrets.token_hex(6)}\n")
    return file.read_text().strip()


def _add_templates(cluster: Cluster) -> None:
    for name in cluster.options.templates:
        with cluster.state.change():
            if cluster.state.templates.get(name) is None:
                template = Template(name, cluster.state.new_template_number())
                cluster.state.templates.put(name, template)
