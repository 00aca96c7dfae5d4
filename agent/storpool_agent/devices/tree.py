# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The tree of StorPool's links on this host, `/dev/storpool` and `/dev/storpool-byid`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from storpool_agent.deadline import Deadline
from storpool_agent.devices import node, openers
from storpool_agent.devices.model import Device
from storpool_agent.devices.uevents import Uevents
from storpool_agent.errors import AgentError, DetachIncomplete, DeviceMismatch, DeviceTimeout, SizeNotPropagated
from storpool_commands.disks import Holder, Mode
from storpool_commands.references import is_global_id

BY_ID = "storpool-byid"
BY_NAME = "storpool"
FIRST_LOOK_S = 0.002  # after a look that came too early: StorPool's link follows its device within milliseconds
LONGEST_LOOK_S = 0.1  # between looks when no event comes

T = TypeVar("T")


class DeviceTree:
    """Looks first, waits after: what is there already costs no wait. Any thread may use it."""

    def __init__(self, root: Path = Path("/dev")) -> None:
        """Nodes are under the same root as the links: what leads out of it is not StorPool's."""
        self._root = root
        self._uevents = Uevents()

    def start(self) -> None:
        """Before the first wait; without it waits are as right and less prompt."""
        self._uevents.start()

    def stop(self) -> None:
        self._uevents.stop()

    def link(self, global_id: str) -> str:
        return str(self._link(global_id))

    def links(self, global_id: str, name: str) -> list[str]:
        named = {name, f"~{global_id}"}
        return [str(self._link(global_id)), *(str(self._root / BY_NAME / one) for one in sorted(named))]

    def linked(self) -> Sequence[str]:
        """What is no global id is not StorPool's link: unfinished ones and strangers' files are passed over."""
        try:
            names = [path.name for path in (self._root / BY_ID).iterdir()]
        except FileNotFoundError:  # a host that has never attached anything
            return ()
        return tuple(sorted(name for name in names if is_global_id(name)))

    def linked_as(self, name: str) -> str | None:
        node = node_of(self._root / BY_NAME / name)
        return next((one for one in self.linked() if node and node_of(self._link(one)) == node), None)

    def look(self, global_id: str) -> Device | None:
        return node.look(self._link(global_id), self._root)

    def wait_ready(self, global_id: str, size_bytes: int, mode: Mode, deadline: Deadline) -> Device:
        def ready() -> Device | AgentError:
            found = self._found(global_id)
            if not isinstance(found, Device):
                return found or self._nothing(global_id)
            if (found.size_bytes, found.mode) == (size_bytes, mode):
                return found
            return _mismatch(found, size_bytes, mode)

        return self._wait(ready, deadline)

    def wait_size(self, global_id: str, size_bytes: int, deadline: Deadline) -> Device:
        def resized() -> Device | AgentError:
            found = self._found(global_id)
            if isinstance(found, Device) and found.size_bytes == size_bytes:
                return found
            return self._not_resized(global_id, found, size_bytes)

        return self._wait(resized, deadline)

    def wait_gone(self, global_id: str, device: Device | None, deadline: Deadline) -> None:
        def gone() -> AgentError | None:
            link = os.path.lexists(self._link(global_id))
            left = device is not None and node.is_still(device)
            return self._not_gone(global_id, link=link, device=device if left else None) if link or left else None

        self._wait(gone, deadline)

    def open(self, device: Device, mode: Mode) -> int:
        return node.open_same(device, mode)

    def holders(self, device: Device) -> Sequence[Holder]:
        return openers.of(device.number)

    def _link(self, global_id: str) -> Path:
        return self._root / BY_ID / global_id

    def _found(self, global_id: str) -> Device | DeviceMismatch | None:
        try:
            return self.look(global_id)
        except DeviceMismatch as error:
            return error

    def _wait(self, look: Callable[[], T | AgentError], deadline: Deadline) -> T:
        """Look now, after each event, and from time to time. At the deadline raise what the last look gave."""
        pause_s = FIRST_LOOK_S
        while True:
            last, seen = deadline.passed, self._uevents.count
            found = look()
            if not isinstance(found, AgentError):
                return found
            if last:
                raise found
            woken = self._uevents.wait(seen, min(pause_s, deadline.remaining_s))
            pause_s = FIRST_LOOK_S if woken else min(2 * pause_s, LONGEST_LOOK_S)

    def _nothing(self, global_id: str) -> DeviceTimeout:
        link = self._link(global_id)
        target = node.leads_to(link)
        seen = f"the link leads to {target}, where no device is" if target else "there is no link"
        if not link.parent.is_dir():
            seen = f"{link.parent} does not exist: is storpool_block running?"
        return DeviceTimeout(
            f"no device came at {link} in time: {seen}",
            path=str(link),
            link=target is not None,
            node=target is not None and os.path.lexists(target),
        )

    def _not_resized(self, global_id: str, found: Device | DeviceMismatch | None, wanted: int) -> SizeNotPropagated:
        path = self.link(global_id)
        if isinstance(found, Device):
            return SizeNotPropagated(
                f"{path} still has {found.size_bytes} bytes instead of {wanted}: "
                "check that storpool_block runs on this host",
                path=path,
                size_bytes=found.size_bytes,
                wanted_size_bytes=wanted,
            )
        seen = str(found) if found else f"no device at {path}"
        return SizeNotPropagated(
            f"no device of {wanted} bytes came in time: {seen}", path=path, size_bytes=None, wanted_size_bytes=wanted
        )

    def _not_gone(self, global_id: str, *, link: bool, device: Device | None) -> DetachIncomplete:
        path = self.link(global_id)
        left = [path] if link else []
        left += [device.node] if device else []
        return DetachIncomplete(
            f"{' and '.join(left)} did not go in time: do not use this device, and check storpool_block",
            path=path,
            link=link,
            node=device.node if device else None,
        )


def node_of(link: Path) -> str | None:
    """None when it leads nowhere."""
    try:
        return os.path.realpath(link, strict=True)
    except OSError:
        return None


def _mismatch(found: Device, size_bytes: int, mode: Mode) -> DeviceMismatch:
    return DeviceMismatch(
        f"{found.link} leads to {found.node} with {found.size_bytes} bytes, {found.mode}, "
        f"instead of {size_bytes} bytes, {mode}",
        path=found.link,
        node=found.node,
        size_bytes=found.size_bytes,
        mode=found.mode,
        wanted_size_bytes=size_bytes,
        wanted_mode=mode,
    )
