# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What StorPool, the kernel, libvirt and the journal each say of this host's volumes, about the same moment."""

import posixpath
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.domains.model import DiskInDomain
from storpool_agent.errors import DeviceMismatch, SnapshotNotFound, VolumeNotFound
from storpool_agent.host import Host
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.temporaries import USE
from storpool_agent.journal.unplugs import PendingUnplug
from storpool_agent.storpool.model import Attachment
from storpool_commands.references import parse


@dataclass(frozen=True)
class Link:
    """A volume's link below storpool-byid, or where it should be."""

    path: str
    there: bool
    device: Device | None
    """What it leads to; None also for what is no device of StorPool."""


@dataclass(frozen=True)
class UsedDisk:
    """A machine's disk below StorPool's directories."""

    disk: DiskInDomain
    global_id: str | None
    """None: its path is a name that StorPool does not know."""


@dataclass(frozen=True)
class Picture:
    """The facts that are compared."""

    our_id: int
    attachments: Sequence[Attachment]
    """Of the whole cluster."""
    links: Mapping[str, Link]
    """By global id: of everything that is attached here, and of every link that is there."""
    disks: Sequence[UsedDisk]
    unplugs: Sequence[PendingUnplug]
    used_by_jobs: frozenset[str] = frozenset()
    """Global ids of what copy jobs of this host read or write now."""
    host: str = ""
    """This host's name, for what a person is told to type."""

    @property
    def here(self) -> Sequence[Attachment]:
        return [one for one in self.attachments if one.client == self.our_id]

    def path(self, global_id: str) -> str | None:
        """Its link, if there is one."""
        link = self.links.get(global_id)
        return link.path if link and link.there else None

    def running(self, global_id: str) -> list[str]:
        """UUIDs of the running machines that have it."""
        return sorted({one.disk.domain.uuid for one in self.disks if one.disk.live and one.global_id == global_id})

    def machines(self, global_id: str) -> list[str]:
        """UUIDs of the machines that have it, running or only configured."""
        return sorted({one.disk.domain.uuid for one in self.disks if one.global_id == global_id})

    def running_names(self, global_id: str) -> list[str]:
        """Their names, in the order of `running`."""
        running = set(self.running(global_id))
        both = zip(self.machines(global_id), self.machine_names(global_id), strict=True)
        return [name for uuid, name in both if uuid in running]

    def machine_names(self, global_id: str) -> list[str]:
        """Their names, in the order of `machines`."""
        named = {one.disk.domain.uuid: one.disk.domain.name for one in self.disks if one.global_id == global_id}
        return [named[uuid] for uuid in sorted(named)]

    def device(self, global_id: str) -> Device | None:
        """What its link leads to."""
        link = self.links.get(global_id)
        return link.device if link else None


def take(host: Host, journal: Journal, deadline: Deadline) -> Picture:
    """Raises the AgentErrors of StorPool, libvirt and the journal: half a picture would accuse the innocent."""
    disks = host.domains.below(_directories(host), deadline)
    linked = frozenset(host.devices.linked())
    attachments = host.storpool.attachments(deadline)
    here = {one.global_id for one in attachments if one.client == host.storpool.our_id}
    return Picture(
        our_id=host.storpool.our_id,
        attachments=attachments,
        links={global_id: _link(host, global_id, global_id in linked) for global_id in sorted(here | linked)},
        disks=[UsedDisk(disk, _global_id(host, disk.path, deadline)) for disk in disks],
        unplugs=journal.unplugs.pending(),
        used_by_jobs=frozenset(one.target for one in journal.temporaries.of_kind(USE)),
        host=host.name,
    )


def _directories(host: Host) -> list[str]:
    """Where this host's links are: the parents of any volume's."""
    return sorted({posixpath.dirname(path) for path in host.devices.links("a.b.c", "name")})


def _link(host: Host, global_id: str, there: bool) -> Link:
    path = host.devices.link(global_id)
    try:
        return Link(path, there, host.devices.look(global_id))
    except DeviceMismatch:
        return Link(path, there, None)


def _global_id(host: Host, path: str, deadline: Deadline) -> str | None:
    """A path below storpool-byid ends in the global id; one below storpool in `~<global id>` or in a name."""
    last = posixpath.basename(path)
    try:
        reference = parse(f"~{last}" if path == host.devices.link(last) else last)
    except ValueError:
        return None
    if reference.kind == "id":
        return reference.value
    for look in (host.storpool.volume, host.storpool.snapshot):
        with suppress(VolumeNotFound, SnapshotNotFound):
            return look(reference, deadline).global_id
    return None
