# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The floor of connectPhysicalDisk: the same API calls and the same verified wait, and nothing around them.

`attach` is VolumesReassignWait and the wait. `attach_safely` makes all calls that the agent makes: Volume for size
and identity, AttachmentsList before (who else writes?) and after (did somebody come in between?).
"""

import errno
import http.client
import json
import os
import stat
import struct
from collections.abc import Callable, Sequence
from fcntl import ioctl
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pyudev

BLKROGET = 0x125E
BLKGETSIZE64 = 0x80081272
WAIT_S = 10.0
LOOK_S = 0.002


class BareHost:
    """A few lines over http.client, pyudev and ioctl. Raises TimeoutError and RuntimeError."""

    def __init__(self, api: str, token: str, client: int, root: Path) -> None:
        self._api = api
        self._headers = {"Authorization": f"Storpool v1:{token}", "Content-Type": "application/json"}
        self._client = client
        self._root = root
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        self._monitor.filter_by("block")
        self._monitor.start()

    def attach(self, volumes: Sequence[str], size_bytes: int) -> None:
        """All in one call."""
        self._reassign([{"volume": one, "rw": [self._client], "onRemoteAttached": "export"} for one in volumes])
        for one in volumes:
            self._wait(partial(self._is_ready, one, size_bytes))

    def attach_safely(self, volume: str) -> None:
        size_bytes = self.look(volume)
        for _ in self._others(volume):
            raise RuntimeError(f"{volume} is attached elsewhere")
        self._reassign([{"volume": volume, "rw": [self._client], "onRemoteAttached": "export"}])
        for _ in self._others(volume):
            raise RuntimeError(f"{volume} is attached elsewhere")
        self._wait(lambda: self._is_ready(volume, size_bytes))

    def detach(self, volumes: Sequence[str]) -> None:
        """Tried again while udev looks at one of them."""
        items = [{"volume": one, "detach": [self._client]} for one in volumes]
        self._wait(lambda: self._try_reassign(items))
        for one in volumes:
            self._wait(partial(self._is_gone, one))

    def detach_safely(self, volume: str) -> None:
        """Only what is attached."""
        self.call("GET", "MultiCluster/AttachmentsList")
        self.detach([volume])

    def look(self, volume: str) -> int:
        """Its size."""
        [found] = self.call("GET", f"MultiCluster/Volume/{volume}")
        return int(found["size"])

    def resize(self, volume: str, size_bytes: int) -> None:
        """Until the device has the size."""
        self.look(volume)
        self.call("POST", f"MultiCluster/VolumeUpdate/{volume}", {"size": size_bytes})
        self.call("GET", f"ClientConfigWait/{self._client}")
        self._wait(lambda: self._is_ready(volume, size_bytes))

    def link(self, volume: str) -> Path:
        return self._root / "storpool-byid" / volume.removeprefix("~")

    def call(self, method: str, query: str, body: Any = None) -> Any:
        """On a connection of its own: StorPool closes it after each answer."""
        connection = http.client.HTTPConnection(self._api, timeout=WAIT_S)
        try:
            connection.request(method, f"/ctrl/1.0/{query}", body and json.dumps(body), self._headers)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise RuntimeError(f"{query}: {answer['error']}")
        return answer["data"]

    def _reassign(self, items: Sequence[Any]) -> None:
        self.call("POST", "MultiCluster/VolumesReassignWait", {"reassign": items, "attachTimeout": int(WAIT_S)})

    def _try_reassign(self, items: Sequence[Any]) -> bool:
        try:
            self._reassign(items)
        except RuntimeError:
            sleep(LOOK_S)
            return False
        return True

    def _others(self, volume: str) -> list[Any]:
        listed = self.call("GET", "MultiCluster/AttachmentsList")
        gid = volume.removeprefix("~")
        return [one for one in listed if one["globalId"] == gid and one["client"] != self._client]

    def _is_gone(self, volume: str) -> bool:
        return not os.path.lexists(self.link(volume))

    def _is_ready(self, volume: str, size_bytes: int) -> bool:
        try:
            node = os.path.realpath(self.link(volume), strict=True)
            opened = os.open(node, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENXIO):
                raise
            return False
        try:
            is_block = stat.S_ISBLK(os.fstat(opened).st_mode)
            (size,) = struct.unpack("=Q", ioctl(opened, BLKGETSIZE64, bytes(8)))
            (readonly,) = struct.unpack("=i", ioctl(opened, BLKROGET, bytes(4)))
        finally:
            os.close(opened)
        return is_block and size == size_bytes and not readonly

    def _wait(self, reached: Callable[[], bool]) -> None:
        """Look, then wait for the next event of udev."""
        until = monotonic() + WAIT_S
        while not reached():
            if monotonic() > until:
                raise TimeoutError(f"not reached within {WAIT_S} s")
            self._monitor.poll(LOOK_S)
