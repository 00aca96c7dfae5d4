# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a handler acts on: the four sides of a host, as the handlers see them.

The adapters below implement these protocols without importing them; a fake in the tests does too, and one
contract suite runs both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.domains.model import Disk, DiskInDomain, Domain
from storpool_agent.storpool.model import Attachment, NewVolume, Volume, VolumeChange
from storpool_commands.disks import Holder, Mode, OnRemoteAttached
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
        self, wanted: NewVolume, request_id: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        """Make a volume that carries the tag `sp-op=<request id>`; an answer that is lost makes no second one.

        `look_first`: the request is run again, an earlier run may have made it: that one is then returned. It
        lists all volumes of the cluster.

        Raises TemplateNotFound, NameTaken, InsufficientResources.
        """
        ...

    def update_volume(self, volume: Volume, change: VolumeChange, deadline: Deadline) -> None:
        """Raises VolumeNotFound, TemplateNotFound, InsufficientResources."""
        ...

    def delete_volume(self, volume: Volume, deadline: Deadline) -> None:
        """No such volume is a success. Raises VolumeBusy when it is attached."""
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


@dataclass(frozen=True)
class Host:
    """One of each."""

    name: str
    storpool: StorPool
    devices: Devices
    domains: Domains
