# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Device nodes, as the handlers see them."""

from collections.abc import Sequence
from typing import Protocol

from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_commands.disks import Holder, Mode


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

    def linked_as(self, name: str) -> str | None:
        """The global id of the volume whose link by this name leads to the same node; for when StorPool is silent."""
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
