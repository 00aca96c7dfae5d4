# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Attach, detach, resize: commands on the disks of one host, and their results."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from storpool_commands.encryption import Encryption
from storpool_commands.labels import VmLabels
from storpool_commands.references import DevicePath, ObjectRef
from storpool_commands.wire import (
    AnswerModel,
    CommandModel,
    Generation,
    Label,
    Limit,
    Reason,
    SizeBytes,
    TagValue,
    TemplateName,
    TimeoutS,
    VmRef,
    WireModel,
)

Mode = Literal["rw", "ro"]
Purpose = Literal["vm", "migration", "copy"]
OnRemoteAttached = Literal["export", "fail"]


class _VolumeOrSnapshot(WireModel):
    volume: ObjectRef | None = None
    snapshot: ObjectRef | None = None

    @model_validator(mode="after")
    def _one_object(self) -> Self:
        if (self.volume is None) == (self.snapshot is None):
            raise ValueError("give either volume or snapshot")
        return self


class ConnectedDisk(AnswerModel):
    """A volume or snapshot that is attached to this host, its device proven to be usable."""

    command: Literal["connectPhysicalDisk"] = "connectPhysicalDisk"
    global_id: str
    path: str
    """The link to use, by global id: it stays right when the volume is renamed."""
    real_device: str
    size_bytes: int
    mode: Mode
    attached_now: bool
    """False when it was attached before this command."""


class ConnectPhysicalDisk(_VolumeOrSnapshot, VmLabels, CommandModel[ConnectedDisk]):
    """Attach a volume or snapshot to this host and wait for its device.

    Repeating it is a success. When the device does not appear, an attachment that this command made is undone.
    A volume that another host has attached for writing is refused, but for `purpose: migration`.
    """

    command: Literal["connectPhysicalDisk"] = "connectPhysicalDisk"
    mode: Mode | None = None
    """Default: `rw` for a volume, `ro` for a snapshot (StorPool knows no other for a snapshot)."""
    purpose: Purpose = "vm"
    on_remote_attached: OnRemoteAttached = "export"
    """What StorPool does when another cluster of a multi-cluster has it attached: export it to this one, or fail."""
    vm_uuid: Label | None = None
    """The machine that is going to have it: the volume gets the tag `cvm`, and `vcPolicy`, `tier`, `diskId`."""
    generation: Generation | None = None
    timeout_s: TimeoutS = 30
    """How long to wait for the host's StorPool client and for the device."""

    @model_validator(mode="after")
    def _snapshots_are_read(self) -> Self:
        if self.snapshot is not None and self.mode == "rw":
            raise ValueError("a snapshot can be attached read-only only")
        if self.vm_tags(None) and self.vm_uuid is None:
            raise ValueError("vcPolicy, tier and diskId are those of a machine's disk: give vmUuid, too")
        if self.snapshot is not None and self.vm_uuid is not None:
            raise ValueError("a snapshot is no disk of a machine: it gets no tags")
        return self


class DisconnectedDisk(AnswerModel):
    """A volume or snapshot that is not attached to this host, its link and device node gone."""

    command: Literal["disconnectPhysicalDisk"] = "disconnectPhysicalDisk"
    global_id: str | None
    """Null when StorPool knows no such object: then nothing can be attached."""
    detached_now: bool
    """False when it was not attached before this command."""


class _Force(WireModel):
    force: bool = False
    """Detach although something has the device open: its I/O fails from then on. Needs a reason."""
    reason: Reason | None = None
    vm_uuid: Label | None = None
    """The machine that had it: the volume loses the tags `cvm`, `vc-policy` and `disk`, unless `cvm` is another's."""
    generation: Generation | None = None
    timeout_s: TimeoutS = 30

    @model_validator(mode="after")
    def _reasoned(self) -> Self:
        if self.force and self.reason is None:
            raise ValueError("force needs a reason, which is kept in the log")
        return self


class DisconnectPhysicalDisk(_VolumeOrSnapshot, _Force, CommandModel[DisconnectedDisk]):
    """Detach a volume or snapshot from this host and wait until its device is gone.

    Repeating it is a success. A device that is open is refused as `volume-busy`, with who holds it. Never
    forced unless `force` says so, and never while a virtual machine of this host uses it.
    """

    command: Literal["disconnectPhysicalDisk"] = "disconnectPhysicalDisk"


class DisconnectedDiskByPath(DisconnectedDisk):
    """As for disconnectPhysicalDisk."""

    command: Literal["disconnectPhysicalDiskByPath"] = "disconnectPhysicalDiskByPath"  # type: ignore[assignment]


class DisconnectPhysicalDiskByPath(_Force, CommandModel[DisconnectedDiskByPath]):
    """As disconnectPhysicalDisk, for a sender that knows the path of the device only."""

    command: Literal["disconnectPhysicalDiskByPath"] = "disconnectPhysicalDiskByPath"
    path: DevicePath


class IoTune(WireModel):
    """Limits that QEMU applies to the disk (libvirt's `iotune`), bytes and requests per second; 0 is no limit."""

    total_bytes_sec: Limit | None = None
    read_bytes_sec: Limit | None = None
    write_bytes_sec: Limit | None = None
    total_iops_sec: Limit | None = None
    read_iops_sec: Limit | None = None
    write_iops_sec: Limit | None = None

    @model_validator(mode="after")
    def _total_or_each(self) -> Self:
        for total, read, write in (
            (self.total_bytes_sec, self.read_bytes_sec, self.write_bytes_sec),
            (self.total_iops_sec, self.read_iops_sec, self.write_iops_sec),
        ):
            if total and (read or write):
                raise ValueError("libvirt takes a total, or a read and a write limit, not both")
        return self


class AttachedDisk(AnswerModel):
    """A volume that a virtual machine has as a disk."""

    command: Literal["attachDisk"] = "attachDisk"
    global_id: str
    vm: str
    """The UUID of the libvirt domain."""
    path: str
    size_bytes: int
    """Of the volume."""
    payload_size_bytes: int | None = None
    """Of an encrypted one: what the machine sees. Null: it is not encrypted."""
    target: str
    """The name that libvirt gives the disk, such as `vdb`; the guest may use another."""
    bus: Literal["virtio", "scsi"]
    serial: str
    address: str | None
    """Where it sits (`pci:0000:05:00.0`, `drive:0:0:1:0`); null in the configuration of a stopped machine."""
    live: bool
    """The running machine has it."""
    persistent: bool
    """The machine has it at its next start."""
    attached_now: bool


class AttachDisk(VmLabels, CommandModel[AttachedDisk]):
    """Connect a volume and give it to a virtual machine: hot-plugged when it runs, else for its next start.

    Repeating it is a success. On failure what this command did is undone in reverse order. The volume gets the tag
    `cvm`, the machine's UUID, and `vcPolicy`, `tier`, `diskId`; when only they could not be set it is `tags-not-set`.
    """

    command: Literal["attachDisk"] = "attachDisk"
    vm: VmRef
    volume: ObjectRef
    mode: Mode = "rw"
    bus: Literal["virtio", "scsi"] = "virtio"
    target: Annotated[str, Field(pattern=r"^(vd|sd)[a-z]{1,2}$")] | None = None
    """Default: the first name that is free in both the running machine and its configuration."""
    serial: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,36}$")] | None = None
    """Default: the global id. virtio-blk shows the guest the first 20 characters."""
    cache: Literal["none", "writeback", "writethrough", "directsync", "unsafe"] = "none"
    io: Literal["native", "threads", "io_uring"] | None = None
    """Default: `native` where the cache mode allows it (QEMU refuses native I/O through the page cache)."""
    discard: Literal["unmap", "ignore"] = "unmap"
    iothread: Annotated[int, Field(ge=1, le=4096)] | None = None
    encryption: Encryption | None = None
    """How an encrypted volume is opened; for one that is not, none. libvirt keeps the passphrase in memory alone: after
    a restart of its daemon send the command again, before the machine is started anew."""
    iotune: IoTune | None = None
    persistent: bool | None = None
    """Also keep it for the machine's next start. Default: as the machine is (a transient one keeps nothing)."""
    require_running: bool = False
    """Refuse a stopped machine (`vm-not-running`) instead of changing its configuration only."""
    generation: Generation | None = None
    timeout_s: TimeoutS = 30


class DetachedDisk(AnswerModel):
    """A volume that the virtual machine no longer has and that is not attached to this host."""

    command: Literal["detachDisk"] = "detachDisk"
    global_id: str | None
    vm: str | None
    """Null when the machine does not exist on this host."""
    unplugged_now: bool
    """The machine had it before this command."""
    detached_now: bool
    """The host had it attached before this command."""


class DetachDisk(CommandModel[DetachedDisk]):
    """Take a disk out of a virtual machine, wait until the guest has let go, and disconnect its volume.

    Repeating it is a success. A guest that does not let go in time is the failure `unplug-pending`: the agent
    remembers, finishes the detach when the guest lets go, and then publishes `attachment.detached`. The volume loses
    the tags `cvm`, `vc-policy` and `disk`.
    """

    command: Literal["detachDisk"] = "detachDisk"
    vm: VmRef
    volume: ObjectRef
    wait_guest_s: Annotated[float, Field(ge=0, le=3600)] = 20
    generation: Generation | None = None
    timeout_s: TimeoutS = 30
    """For what comes after the guest has let go."""


class ResizedVm(AnswerModel):
    """A virtual machine that was told of the new size."""

    vm: str
    target: str
    size_bytes: int
    """As QEMU then reports it; of an encrypted volume without the LUKS header."""


class ResizedVolume(AnswerModel):
    """A volume that has its new size at StorPool, on this host and in each of its virtual machines."""

    command: Literal["StorpoolResizeCmd"] = "StorpoolResizeCmd"
    global_id: str
    previous_size_bytes: int
    size_bytes: int
    payload_size_bytes: int | None = None
    """Of an encrypted one: what machines see. Null: it is not encrypted."""
    device_size_bytes: int | None
    """Null when it is not attached to this host."""
    vms: list[ResizedVm]


class StorpoolResize(CommandModel[ResizedVolume]):
    """Resize a volume, and tell the virtual machines of this host that have it.

    Growth is never rolled back. A volume is made smaller only with `shrinkOk` and the right
    `expectedSizeBytes`, and while no virtual machine has it. Repeating it does only what is missing.
    """

    command: Literal["StorpoolResizeCmd"] = "StorpoolResizeCmd"
    volume: ObjectRef
    new_size_bytes: SizeBytes
    """Of the volume at StorPool, the LUKS header of an encrypted one included."""
    expected_size_bytes: SizeBytes | None = None
    """Refused as `size-changed` when the volume has another size, unless it has the new one already."""
    shrink_ok: bool = False
    vm: VmRef | None = None
    """A machine that must have the volume; without it every machine of this host that has it is told."""
    notify_only: bool = False
    """StorPool has the new size already: only wait for the device and tell the machines."""
    iops: Limit | None = None
    tier: TagValue | None = None
    """The volume's `qc` tag, from which storpool_qos sets the limits."""
    template: TemplateName | None = None
    timeout_s: TimeoutS = 30

    @model_validator(mode="after")
    def _deliberate(self) -> Self:
        if self.shrink_ok and self.expected_size_bytes is None:
            raise ValueError("shrinkOk needs expectedSizeBytes")
        if self.notify_only and not (self.iops is None and self.tier is None and self.template is None):
            raise ValueError("notifyOnly changes nothing at StorPool")
        return self


class AttachedTo(AnswerModel):
    """An attachment as StorPool lists it."""

    client: int
    mode: Mode


class Holder(AnswerModel):
    """Who keeps a device open."""

    kind: Literal["vm", "process", "mount", "device"]
    name: str
    """The machine, the program, the mount point, or the device on top of this one."""
    pid: int | None = None


class VmDisk(AnswerModel):
    """A virtual machine of this host that has the volume as a disk."""

    vm: str
    name: str
    target: str
    live: bool
    persistent: bool


class PhysicalDisk(AnswerModel):
    """What StorPool, the kernel and libvirt each say of one volume or snapshot."""

    command: Literal["getPhysicalDisk"] = "getPhysicalDisk"
    global_id: str
    name: str
    snapshot: bool
    encrypted: bool = False
    """It is, or is to be (tag `sp-luks`)."""
    size_bytes: int
    template: str
    tags: dict[str, str]
    attachments: list[AttachedTo]
    attached_here: Mode | None
    path: str | None
    """The link on this host, null when there is none."""
    real_device: str | None
    device_size_bytes: int | None
    device_mode: Mode | None
    holders: list[Holder]
    vms: list[VmDisk]
    pending_unplug_vm: str | None
    """The machine whose guest has been asked to let go and has not yet."""


class GetPhysicalDisk(_VolumeOrSnapshot, CommandModel[PhysicalDisk]):
    """Look at a volume or snapshot from all sides. Changes nothing, attaches nothing."""

    command: Literal["getPhysicalDisk"] = "getPhysicalDisk"


class DiskQos(AnswerModel):
    """The limits that QEMU applies to a disk, as libvirt says; 0 is no limit."""

    command: Literal["setDiskQos"] = "setDiskQos"
    vm: str
    target: str
    live: bool
    """The running machine has them."""
    persistent: bool
    """The machine has them at its next start."""
    total_bytes_sec: int
    read_bytes_sec: int
    write_bytes_sec: int
    total_iops_sec: int
    read_iops_sec: int
    write_iops_sec: int


class SetDiskQos(CommandModel[DiskQos]):
    """Set the limits that QEMU applies to a disk of a machine, running or stopped. Limits that are not named stay."""

    command: Literal["setDiskQos"] = "setDiskQos"
    vm: VmRef
    volume: ObjectRef
    iotune: IoTune
    timeout_s: TimeoutS = 30

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.iotune.model_dump(exclude_none=True):
            raise ValueError("iotune: name a limit")
        return self
