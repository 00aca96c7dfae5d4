# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a handler acts on: the sides of a host, as the handlers see them.

The adapters below implement these protocols without importing them; a fake in the tests does too, and one
contract suite runs both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.domains.model import Disk, DiskInDomain, Domain, MirrorTarget
from storpool_agent.images.model import Image, Look
from storpool_agent.secondary.model import Part
from storpool_agent.storpool.model import (
    Attachment,
    NewSnapshot,
    NewVolume,
    Services,
    TemplateSpace,
    Volume,
    VolumeChange,
)
from storpool_agent.task import Task
from storpool_commands.disks import Holder, IoTune, Mode, OnRemoteAttached
from storpool_commands.images import Compression
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

    def volumes_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        """The volumes that carry the tag `sp-op=<operation>`. It lists all volumes of the cluster."""
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

    def open(self, device: Device, mode: Mode) -> int:
        """A descriptor of the device, proven to be the one that was looked at; the caller closes it.

        Raises DeviceMismatch when the node has become another device, or has another size.
        """
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

    def mirror(self, disk: DiskInDomain, target: MirrorTarget, task: Task, deadline: Deadline) -> None:
        """Copy a running machine's disk to the target, and then all that the guest writes, until they are the same.

        One that is under way to the same target, begun by an earlier run of the agent, is gone on with; a machine that
        has been pivoted to the target already is a success. `deadline` is for the beginning, the copy takes as long as
        it takes. When the task is interrupted, or stalls, the mirror is ended and the machine keeps its disk. It is
        left as it is by AgentStopping; by LibvirtUnavailable, LibvirtTimeout and VmBusy after libvirt did not tell of
        it for two minutes; and when it cannot be ended. The message then says that it runs on: `end_mirror` is due.

        Raises BlockJobFailed, CopyStalled, VmNotFound, VmNotRunning, VmBusy (another block job), DiskConflict (the disk
        is another one by now, or is being copied elsewhere), DiskInUseByVm (a machine has the target as a disk),
        WouldShrink and SizeChanged (the target is smaller or larger than the disk: QEMU copies to the same size only).
        """
        ...

    def pivot(self, disk: DiskInDomain, target: MirrorTarget, deadline: Deadline) -> DiskInDomain:
        """Have the machine use the target instead, now and in its configuration, and read that back.

        Done already is a success, and what is missing in the configuration is done. Raises BlockJobFailed when the two
        are not the same: the machine keeps its disk, and the mirror, if there is one, runs on. After LibvirtTimeout it
        may have been done. VmNotFound, VmNotRunning, DiskConflict.
        """
        ...

    def end_mirror(self, vm: str, target_path: str, deadline: Deadline) -> None:
        """End a mirror to this path, if one is under way; the machine (a UUID) keeps its disk. None such is a success.

        Raises DiskInUseByVm when the machine has been pivoted to it: then it is no copy any more, and must be kept.
        VmBusy when it does not come to its end in time.
        """
        ...

    def capacity(self, disk: DiskInDomain, deadline: Deadline) -> int:
        """Bytes of the disk as the guest sees it. Raises VmNotFound, VmNotRunning, DiskConflict."""
        ...

    def versions(self, deadline: Deadline) -> tuple[str, str]:
        """Of libvirt and of QEMU."""
        ...


class Images(Protocol):
    """The tools for disk images. Each call may raise what the task is interrupted with, CopyStalled and CopyFailed.

    They run as children of their own: with limits, at low priority, ended with the agent, and never given a path
    that came from a message.
    """

    def inspect(self, image: Image, task: Task, *, max_size_bytes: int) -> Look:
        """Look into a foreign image, in a process that can do no harm.

        Raises ImageRefused (another file behind it, snapshots in it, features nobody asked for, tables out of all
        proportion), ImageFormatMismatch (it is something else than was said; a raw one that begins as an image of
        another format), ImageTooLarge (its disk has more than `max_size_bytes`).
        """
        ...

    def create(self, image: Image, size_bytes: int, task: Task) -> None:
        """Make an empty file an image of a disk of that size, which reads as zeroes. Raises SecondaryFull."""
        ...

    def convert(
        self, source: Image, target: Image, task: Task, *, zeroed: bool = False, compress: bool = False
    ) -> None:
        """Copy the disk in `source` to `target`, and flush it.

        A target that is a file is empty before and becomes an image of the target's format and of the source's virtual
        size, sparse where that is zero. A device has at least that size; what is beyond is left as it is. `zeroed`: all
        of the target reads as zeroes, so none are written. `compress`: zstd, qcow2 alone. Raises SecondaryFull when the
        target is a file and there is no room for it, and SecondaryUnavailable when one of the files fails.
        """
        ...

    def block_hash(self, image: Image, size_bytes: int, task: Task) -> str:
        """The BlockHash of the first `size_bytes` of the disk in an image, read past the page cache."""
        ...

    def checksum(self, image: Image, algorithm: str, task: Task) -> str:
        """Of the file as it is, as `<algorithm>:<hex>`."""
        ...

    def unpack(self, packed: Image, compression: Compression, target: int, task: Task, *, max_bytes: int) -> None:
        """Decompress a file into an empty one, sparsely. Raises ImageTooLarge as soon as more than that comes out,
        ImageRefused when it is no such file or is cut off, ScratchFull."""
        ...

    def fetch(self, url: str, target: int, task: Task, *, max_bytes: int) -> None:
        """Download into an empty file; a connection that breaks is taken up again where the server can do that.

        Raises SecondaryNotAllowed (an address that the settings do not allow, also when a redirect leads there),
        ImageNotFound, DownloadFailed, ImageTooLarge, ScratchFull.
        """
        ...


class Secondary(Protocol):
    """Secondary storage. Any call may raise SecondaryUnavailable.

    Files are reached in a store that somebody has acquired; `check` and `local_path` need no such.
    """

    max_image_bytes: int
    """The largest disk, and the largest download, that this host's settings allow."""

    def check(self, store: str) -> None:
        """Raises SecondaryNotAllowed for a store that this host's settings do not allow. Changes nothing."""
        ...

    def acquire(self, store: str, owner: str) -> None:
        """Have a store mounted until everybody who acquired it has released it. Again by the same owner is no more.

        Raises SecondaryNotAllowed.
        """
        ...

    def release(self, store: str, owner: str) -> None:
        """Unmount it if nobody else has it. Not acquired is a success.

        What this owner had begun there, and could neither publish nor discard, is closed: nothing keeps the mount busy.
        """
        ...

    def sweep(self) -> None:
        """Unmount what an earlier run of the agent has left mounted and nobody has acquired by now."""
        ...

    def open_image(self, store: str, path: str) -> int:
        """A descriptor of a regular file with one name, opened for reading; no symbolic link is followed.

        Raises ImageNotFound, ImageRefused (a link, a directory, a device, a second name).
        """
        ...

    def exists(self, store: str, path: str) -> bool: ...

    def create_part(self, store: str, path: str, owner: str) -> Part:
        """Begin a file; one that this owner had begun for this path is begun anew. Directories on the way are made.

        Raises FileExists when there is a file of that name, also one that this owner published before the agent died;
        SecondaryReadOnly, SecondaryFull, ImageRefused (a way that is no chain of directories).
        """
        ...

    def publish(self, part: Part) -> int:
        """Flush the file and give it its name, if the store is still what it was; its length in bytes.

        Raises FileExists: nothing that is there is replaced, and the part is removed. After other failures the part is
        for `discard_part`.
        """
        ...

    def discard_part(self, store: str, path: str, owner: str) -> None:
        """Remove what `create_part` began, if it is still there under that name."""
        ...

    def write_text(self, store: str, path: str, text: str) -> None:
        """Write a small file in one step, over one that is there. Raises SecondaryReadOnly, SecondaryFull."""
        ...

    def remove(self, store: str, path: str) -> None:
        """Remove a file. None such is a success."""
        ...

    def scratch(self, owner: str) -> int:
        """An empty file of this host that has no name: what is in it is gone when it is closed. Raises ScratchFull."""
        ...

    def local_path(self, store: str, path: str) -> str:
        """The path of a file that machines of this host may have as a disk: of a `file://` store alone.

        Raises SecondaryNotAllowed for others, which are only mounted while a copy needs them.
        """
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
    images: Images
    secondary: Secondary
    cluster_id: str | None = None
    """SP_CLUSTER_ID of the host's settings."""
