# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPool and the devices of a host, in memory, by the rules of the real ones.

`tests/contract` runs the same tests on these and on the real parts, so they cannot drift.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from fake_storpool import FakeStorPool
from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.errors import DetachIncomplete, DeviceMismatch, DeviceTimeout, SizeNotPropagated
from storpool_agent.storpool.model import Attachment
from storpool_commands.disks import Holder, Mode

__all__ = ["FakeDevices", "FakeStorPool"]

LINKS = "/dev/storpool-byid"
NAMES = "/dev/storpool"


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
        return [self.link(global_id), f"{NAMES}/{name}"]

    def linked(self) -> Sequence[str]:
        here = {global_id for global_id, client in self.storpool.attached if client == self.storpool.our_id}
        return sorted(each for each in {*here, *self._present} if self.look(each) is not None)

    def linked_as(self, name: str) -> str | None:
        found = (each for each in self.linked() if self.storpool.volumes[each].name == name)
        return next(found, None)

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

    def open(self, device: Device, mode: Mode) -> int:
        """A descriptor of a file that has the contents of the volume, as long as the volume is there."""
        present = self.look(device.link.removeprefix(f"{LINKS}/"))
        if present != device:
            raise DeviceMismatch(f"{device.link} has become another device", path=device.link)
        return os.dup(self.storpool.disk(device.link.removeprefix(f"{LINKS}/")))

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
