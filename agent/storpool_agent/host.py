# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a handler acts on: the four sides of a host, as the handlers see them.

The adapters below implement these protocols without importing them; a fake in the tests does too, and one
contract suite runs both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.domains.model import Disk, DiskInDomain, Domain
from storpool_agent.storpool.model import (
    Attachment,
    NewSnapshot,
    NewVolume,
    Services,
    TemplateSpace,
    Volume,
    VolumeChange,
)
from storpool_commands.disks import Holder, IoTune, Mode, OnRemoteAttached
from storpool_commands.references import Reference


class StorPool(Protocol):
    """The StorPool cluster, seen from this host's client id.

    Every call may raise StorPoolUnavailable, StorPoolTimeout, StorPoolBadAnswer, StorPoolUnauthorized and
    StorPoolRefused besides what it names.
    """

    our_id: int

    def volume(self, reference: Reference, deadline: Deadline) -> Volume:
        """Raises VolumeNotFound."""
        ...

    def snapshot(self, reference: Reference, deadline: Deadline) -> Volume:
        """Raises SnapshotNotFound."""
        ...

    def attachments(self, deadline: Deadline) -> Sequence[Attachment]:
        """All of the cluster, no older than this call. Calls that overlap share one request."""
        ...

    def attach(self, volume: Volume, mode: Mode, on_remote_attached: OnRemoteAttached, deadline: Deadline) -> None:
        """Attach to this host, and wait until its client has done so. Already attached is a success.

        Calls that overlap are sent as one request. Raises VolumeNotFound, SnapshotNotFound, StorPoolClientDown,
        ClientNotRegistered, NoAttachmentSlot, VolumeBusy.
        """
        ...

    def detach(self, volume: Volume, deadline: Deadline, *, force: bool = False) -> None:
        """Detach from this host. Not attached, or no such object, is a success.

        Raises VolumeBusy when the device is open; a device that udev is still looking at is waited for.
        """
        ...

    def create_volume(
        self, wanted: NewVolume, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        """Make a volume that carries the tag `sp-op=<operation>`; an answer that is lost makes no second one.

        `look_first`: the request is run again, an earlier run may have made it: that one is then returned. It
        lists all volumes of the cluster.

        Raises TemplateNotFound, SnapshotNotFound (the parent), NameTaken, InsufficientResources.
        """
        ...

    def update_volume(self, volume: Volume, change: VolumeChange, deadline: Deadline) -> None:
        """Raises VolumeNotFound, TemplateNotFound, InsufficientResources."""
        ...

    def delete_volume(self, volume: Volume, deadline: Deadline) -> None:
        """A volume or a snapshot. None such is a success. Raises VolumeBusy when it is attached, StillExported."""
        ...

    def take_snapshot(
        self, volume: Volume, wanted: NewSnapshot, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        """Take a snapshot that carries the tag `sp-op=<operation>`; `look_first` as for create_volume.

        Raises VolumeNotFound, NameTaken, InsufficientResources.
        """
        ...

    def take_group_snapshot(
        self,
        volumes: Sequence[Volume],
        wanted: NewSnapshot,
        operation: str,
        deadline: Deadline,
        *,
        look_first: bool = False,
    ) -> Sequence[Volume]:
        """Take snapshots of all of them at one moment, or of none; returned in the order of the volumes.

        They are unnamed and never expire: `wanted` has their tags alone. Raises VolumeNotFound, InsufficientResources.
        """
        ...

    def snapshots_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        """The snapshots that carry the tag `sp-op=<operation>`. It lists all snapshots of the cluster."""
        ...

    def revert_volume(self, volume: Volume, snapshot: Volume, deadline: Deadline, *, revert_size: bool = False) -> None:
        """Give a volume the data of a snapshot. Raises VolumeNotFound, SnapshotNotFound, VolumeBusy (attached)."""
        ...

    def release(self, volumes: Sequence[Volume], deadline: Deadline, *, force: bool = False) -> None:
        """Detach all of them, volumes or snapshots, from all clients. Attached nowhere is a success.

        Raises VolumeBusy when one is open and it is not forced: then none is detached. VolumeNotFound,
        SnapshotNotFound.
        """
        ...

    def templates(self, deadline: Deadline) -> Sequence[TemplateSpace]:
        """All templates of the cluster, with their room."""
        ...

    def services(self, deadline: Deadline) -> Services:
        """What runs in the cluster."""
        ...

    def wait_for_client(self, deadline: Deadline) -> None:
        """Wait until this host's client knows the present configuration of the cluster (ClientConfigWait)."""
        ...


class Devices(Protocol):
    """Device nodes of StorPool on this host."""

    def link(self, global_id: str) -> str:
        """The path of a volume's link, whether there is one or not."""
        ...

    def links(self, global_id: str, name: str) -> list[str]:
        """Every path by which a volume can be named on this host."""
        ...

    def linked(self) -> Sequence[str]:
        """The global ids that have a link on this host."""
        ...

    def look(self, global_id: str) -> Device | None:
        """The device behind the link, None when there is no link or no device. Raises DeviceMismatch."""
        ...

    def wait_ready(self, global_id: str, size_bytes: int, mode: Mode, deadline: Deadline) -> Device:
        """Wait for a device that opens and has this size and mode.

        Raises DeviceTimeout (nothing came) or DeviceMismatch (something came, and stayed wrong).
        """
        ...

    def wait_size(self, global_id: str, size_bytes: int, deadline: Deadline) -> Device:
        """Wait until an attached device has the new size. Raises SizeNotPropagated."""
        ...

    def wait_gone(self, global_id: str, device: Device | None, deadline: Deadline) -> None:
        """Wait until link and node are gone. Raises DetachIncomplete."""
        ...

    def holders(self, device: Device) -> Sequence[Holder]:
        """Processes, mounts and devices on top that keep it open; udev's own short looks are left out."""
        ...


class Domains(Protocol):
    """The virtual machines of this host.

    Every call may raise LibvirtUnavailable, LibvirtTimeout and LibvirtRefused besides what it names.
    """

    def find(self, vm: str, deadline: Deadline) -> Domain:
        """By UUID or name. Raises VmNotFound."""
        ...

    def having(self, paths: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        """Every machine, running or only configured, that has a disk with one of these source paths."""
        ...

    def below(self, directories: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        """Every disk of every machine whose source path is in one of these directories."""
        ...

    def place(self, domain: Domain, disk: Disk, deadline: Deadline) -> str:
        """The target that `plug` would take now. Raises as it does, but for what libvirt alone knows: a free slot."""
        ...

    def plug(self, domain: Domain, disk: Disk, deadline: Deadline) -> DiskInDomain:
        """Give the machine a disk, live and in its configuration as `disk` says, and read it back.

        Raises TargetTaken, NoHotplugSlot, VmNotFound, VmNotRunning, VmBusy, DiskConflict, DiskInUseByVm.
        """
        ...

    def unplug(self, domain: Domain, disk: DiskInDomain, wait_guest_s: float, deadline: Deadline) -> None:
        """Take the disk out of the configuration, then out of the running machine, and wait for the guest.

        Gone already is a success. Raises UnplugPending when the guest has not let go in time, UnplugRejected
        when it refused, VmBusy.
        """
        ...

    def resize(self, disk: DiskInDomain, size_bytes: int, deadline: Deadline) -> int:
        """Tell a running machine of its disk's new size; returns the size that QEMU then reports.

        Raises GuestNotNotified, VmBusy; VmNotFound and VmNotRunning when there is nobody to tell any more.
        """
        ...

    def tune(self, domain: Domain, disk: DiskInDomain, limits: IoTune, deadline: Deadline) -> IoTune:
        """Set the limits that are named, live and in the configuration, and read back what then holds.

        Raises VmBusy, VmNotFound, InvalidCommand for limits that libvirt cannot combine with those that are set.
        """
        ...

    def freeze(self, domain: Domain, deadline: Deadline) -> None:
        """Have the guest's agent freeze all its file systems; frozen already is a success.

        Raises VmNotRunning, GuestAgentUnavailable, GuestNotFrozen, VmBusy: after any of them the guest is not frozen.
        After LibvirtTimeout it may be, or may become so yet: `thaw` is due.
        """
        ...

    def thaw(self, domain: Domain, deadline: Deadline) -> bool:
        """Have the guest write again; false when it was not frozen any more, or the machine is off.

        True says that nobody else has thawed it before.

        Raises GuestAgentUnavailable, VmBusy.
        """
        ...

    def versions(self, deadline: Deadline) -> tuple[str, str]:
        """Of libvirt and of QEMU."""
        ...


@dataclass(frozen=True)
class Pool:
    """An API of StorPool, and what is made there when a command says no more."""

    name: str
    """Empty for the host's own."""
    api: str
    storpool: StorPool
    template: str | None
    cluster_id: str | None
    token: SecretStr = field(default=SecretStr(""))
    """What its API takes; empty for the host's own, which is never compared."""


class Pools(Protocol):
    """The storage pools that this host knows."""

    def get(self, name: str | None) -> Pool:
        """None is the host's own. Raises PoolNotFound."""
        ...

    def all(self) -> Sequence[Pool]:
        """The host's own first."""
        ...

    def open(self, name: str, url: SecretStr, cluster_id: str | None) -> Pool:
        """A pool that is not kept yet. Raises InvalidCommand for a URL that is none, without showing it."""
        ...

    def missing(self, pool: Pool) -> bool:
        """Whether `keep` would be news. Raises PoolConflict, TemplateInUse."""
        ...

    def keep(self, pool: Pool) -> bool:
        """Know it from now on, also after a restart; false when it was known. Raises as `missing`."""
        ...

    def forget(self, name: str) -> bool:
        """False when it was not known. Raises PoolConflict for a pool of agent.toml."""
        ...


@dataclass(frozen=True)
class Host:
    """One of each."""

    name: str
    storpool: StorPool
    """The host's own: where its volumes are attached."""
    devices: Devices
    domains: Domains
    pools: Pools
    cluster_id: str | None = None
    """SP_CLUSTER_ID of the host's settings."""
