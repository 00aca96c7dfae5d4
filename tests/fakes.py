# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPool and the devices of a host, in memory, by the rules of the real ones.

`tests/contract` runs the same tests on these and on the real parts, so they cannot drift.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.errors import (
    AgentError,
    DetachIncomplete,
    DeviceMismatch,
    DeviceTimeout,
    NameTaken,
    SizeNotPropagated,
    SnapshotNotFound,
    StorPoolClientDown,
    StorPoolRefused,
    TemplateNotFound,
    VolumeBusy,
    VolumeNotFound,
)
from storpool_agent.storpool.model import Attachment, NewVolume, Volume, VolumeChange
from storpool_commands.disks import Holder, Mode, OnRemoteAttached
from storpool_commands.references import Reference

LINKS = "/dev/storpool-byid"
OPERATION_TAG = "sp-op"


@dataclass
class FakeStorPool:
    """What StorPool keeps, and what a test may do to it."""

    our_id: int = 1
    templates: set[str] = field(default_factory=lambda: {"dev"})
    volumes: dict[str, Volume] = field(default_factory=dict[str, Volume])
    """By global id; snapshots too."""
    attached: dict[tuple[str, int], Attachment] = field(default_factory=dict[tuple[str, int], Attachment])
    """By global id and client."""
    openers: dict[str, list[Holder]] = field(default_factory=dict[str, list[Holder]])
    """Who has the device open on this host, by global id."""
    client_down: bool = False
    failures: dict[str, list[AgentError]] = field(default_factory=dict[str, list[AgentError]])
    """By the name of a method: what its next calls raise before they do anything."""
    lost_answers: dict[str, list[AgentError]] = field(default_factory=dict[str, list[AgentError]])
    """As `failures`, after they have done it."""
    calls: list[str] = field(default_factory=list[str])
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def add(self, size_bytes: int = 1 << 20, name: str | None = None, *, snapshot: bool = False) -> Volume:
        """An object that was there before."""
        global_id = f"d.n.a{next(self._numbers)}"
        volume = Volume(global_id, name or f"~{global_id}", size_bytes, snapshot, template="dev")
        self.volumes[global_id] = volume
        return volume

    def attach_elsewhere(self, volume: Volume, client: int, mode: Mode = "rw") -> None:
        self.attached[volume.global_id, client] = Attachment(volume.global_id, client, mode, volume.snapshot)

    def volume(self, reference: Reference, deadline: Deadline) -> Volume:
        self._called("volume")
        return self._find(reference, snapshot=False)

    def snapshot(self, reference: Reference, deadline: Deadline) -> Volume:
        self._called("snapshot")
        return self._find(reference, snapshot=True)

    def attachments(self, deadline: Deadline) -> Sequence[Attachment]:
        self._called("attachments")
        return tuple(self.attached.values())

    def attach(self, volume: Volume, mode: Mode, on_remote_attached: OnRemoteAttached, deadline: Deadline) -> None:
        self._called("attach")
        self._find(volume.reference, snapshot=volume.snapshot)
        if self.client_down:
            raise StorPoolClientDown(f"client {self.our_id} is down", client=self.our_id)
        self.attached[volume.global_id, self.our_id] = Attachment(volume.global_id, self.our_id, mode, volume.snapshot)
        self._answer("attach")

    def detach(self, volume: Volume, deadline: Deadline, *, force: bool = False) -> None:
        self._called("detach")
        here = (volume.global_id, self.our_id)
        if here in self.attached and self.openers.get(volume.global_id) and not force:
            raise VolumeBusy(f"{volume.reference} is open", volume=volume.global_id, client=self.our_id)
        self.attached.pop(here, None)
        self._answer("detach")

    def create_volume(
        self, wanted: NewVolume, request_id: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        self._called("create_volume")
        made = [each for each in self.volumes.values() if each.tags.get(OPERATION_TAG) == request_id]
        if look_first and made:
            return made[0]
        if wanted.template not in self.templates:
            raise TemplateNotFound(f"no template {wanted.template}", template=wanted.template)
        same_name = [each for each in self.volumes.values() if each.name == wanted.name]
        if same_name and same_name[0] not in made:
            raise NameTaken(f"{wanted.name} is taken", name=wanted.name)
        if same_name:
            return same_name[0]
        volume = replace(
            self.add(wanted.size_bytes, wanted.name),
            template=wanted.template,
            tags={**wanted.tags, OPERATION_TAG: request_id},
            iops=wanted.iops or None,
        )
        self.volumes[volume.global_id] = volume
        self._answer("create_volume")
        return volume

    def update_volume(self, volume: Volume, change: VolumeChange, deadline: Deadline) -> None:
        self._called("update_volume")
        present = self._find(volume.reference, snapshot=False)
        if change.template is not None and change.template not in self.templates:
            raise TemplateNotFound(f"no template {change.template}", template=change.template)
        size_bytes = change.size_bytes or present.size_bytes
        if size_bytes < present.size_bytes and not change.shrink_ok:
            raise StorPoolRefused("the volume would shrink", error="invalidParam")
        self.volumes[volume.global_id] = replace(
            present,
            size_bytes=size_bytes,
            template=change.template or present.template,
            iops=present.iops if change.iops is None else change.iops or None,
            tags=_merged(present.tags, change.tags),
        )
        self._answer("update_volume")

    def delete_volume(self, volume: Volume, deadline: Deadline) -> None:
        self._called("delete_volume")
        if any(global_id == volume.global_id for global_id, _ in self.attached):
            raise VolumeBusy(f"{volume.reference} is attached", volume=volume.global_id)
        self.volumes.pop(volume.global_id, None)
        self._answer("delete_volume")

    def wait_for_client(self, deadline: Deadline) -> None:
        self._called("wait_for_client")
        if self.client_down:
            raise StorPoolClientDown(f"client {self.our_id} is down", client=self.our_id)

    def _find(self, reference: Reference, *, snapshot: bool) -> Volume:
        for volume in self.volumes.values():
            named = volume.global_id if reference.kind == "id" else volume.name
            if named == reference.value and volume.snapshot == snapshot:
                return volume
        if snapshot:
            raise SnapshotNotFound(f"no snapshot {reference}", snapshot=str(reference))
        raise VolumeNotFound(f"no volume {reference}", volume=str(reference))

    def _called(self, method: str) -> None:
        self.calls.append(method)
        _raise_next(self.failures, method)

    def _answer(self, method: str) -> None:
        _raise_next(self.lost_answers, method)


@dataclass
class FakeDevices:
    """The devices of `storpool`'s own client. Never waits: what is not so now is a timeout."""

    storpool: FakeStorPool
    asleep: bool = False
    """No device follows an attachment any more."""
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    """Devices, by global id, that have another size than their volume."""
    modes: dict[str, Mode] = field(default_factory=dict[str, Mode])
    stuck: set[str] = field(default_factory=set[str])
    """Devices that stay after their detach."""
    _present: dict[str, Device] = field(default_factory=dict[str, Device])
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def link(self, global_id: str) -> str:
        return f"{LINKS}/{global_id}"

    def links(self, global_id: str, name: str) -> list[str]:
        return [self.link(global_id), f"{LINKS}/{name}"]

    def look(self, global_id: str) -> Device | None:
        attachment = self.storpool.attached.get((global_id, self.storpool.our_id))
        if attachment is None and global_id not in self.stuck:
            self._present.pop(global_id, None)
        elif attachment is not None and not self.asleep:
            self._present[global_id] = self._follow(attachment)
        return self._present.get(global_id)

    def wait_ready(self, global_id: str, size_bytes: int, mode: Mode, deadline: Deadline) -> Device:
        device = self.look(global_id)
        if device is None:
            raise DeviceTimeout(f"no device at {self.link(global_id)}", path=self.link(global_id), link=False)
        if (device.size_bytes, device.mode) != (size_bytes, mode):
            raise DeviceMismatch(
                f"{device.size_bytes} bytes, {device.mode}", size_bytes=device.size_bytes, mode=device.mode
            )
        return device

    def wait_size(self, global_id: str, size_bytes: int, deadline: Deadline) -> Device:
        device = self.look(global_id)
        if device is None or device.size_bytes != size_bytes:
            seen = device.size_bytes if device else None
            raise SizeNotPropagated(f"{seen} bytes", size_bytes=seen, wanted_size_bytes=size_bytes)
        return device

    def wait_gone(self, global_id: str, device: Device | None, deadline: Deadline) -> None:
        if self.look(global_id) is not None:
            raise DetachIncomplete(f"{self.link(global_id)} is still there", path=self.link(global_id))

    def holders(self, device: Device) -> Sequence[Holder]:
        for global_id, present in self._present.items():
            if present.sequence == device.sequence:
                return tuple(self.storpool.openers.get(global_id, ()))
        return ()

    def _follow(self, attachment: Attachment) -> Device:
        global_id = attachment.global_id
        before = self._present.get(global_id) or self._new(global_id)
        return replace(
            before,
            size_bytes=self.sizes.get(global_id, self.storpool.volumes[global_id].size_bytes),
            mode=self.modes.get(global_id, attachment.mode),
        )

    def _new(self, global_id: str) -> Device:
        number = next(self._numbers)
        return Device(self.link(global_id), f"/dev/sp-{number}", number, number, 0, "rw")


def _merged(tags: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """An empty value removes the tag."""
    return {name: value for name, value in {**tags, **changes}.items() if value}


def _raise_next(errors: dict[str, list[AgentError]], method: str) -> None:
    if errors.get(method):
        raise errors[method].pop(0)
