# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Device nodes, some of which are only imagined."""

import os
from collections.abc import Sequence
from os.path import realpath

from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.host import Devices
from storpool_commands.disks import Holder, Mode


class DryDevices:
    """Looks at the real ones, and waits for none."""

    def __init__(self, real: Devices) -> None:
        self._real = real
        self._closed: list[tuple[str, str]] = []

    def imagine_closed(self, path: str, vm: str) -> None:
        """A machine has let go of the device at this path."""
        self._closed.append((realpath(path), vm))

    def link(self, global_id: str) -> str:
        return self._real.link(global_id)

    def links(self, global_id: str, name: str) -> list[str]:
        return self._real.links(global_id, name)

    def linked(self) -> Sequence[str]:
        return self._real.linked()

    def linked_as(self, name: str) -> str | None:
        return self._real.linked_as(name)

    def look(self, global_id: str) -> Device | None:
        return self._real.look(global_id)

    def holders(self, device: Device) -> Sequence[Holder]:
        closed = {vm for path, vm in self._closed if path == realpath(device.link)}
        return [one for one in self._real.holders(device) if not (one.kind == "vm" and one.name in closed)]

    def open(self, device: Device, mode: Mode) -> int:
        """Nothing is read from it, and nothing written to it."""
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def wait_ready(self, global_id: str, size_bytes: int, mode: Mode, deadline: Deadline) -> Device:
        link = self._real.link(global_id)
        return self._real.look(global_id) or Device(link, link, 0, 0, size_bytes, mode)

    def wait_size(self, global_id: str, size_bytes: int, deadline: Deadline) -> Device:
        return self.wait_ready(global_id, size_bytes, "rw", deadline)

    def wait_gone(self, global_id: str, device: Device | None, deadline: Deadline) -> None:
        pass
