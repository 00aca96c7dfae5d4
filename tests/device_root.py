# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Loop devices with StorPool's nodes and links to them, made by hand under a directory."""

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COMMAND_TIMEOUT_S = 20.0


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    return done.stdout.strip()


@dataclass
class DeviceRoot:
    """`path` stands for /dev, `scratch` holds what is behind the devices."""

    path: Path
    scratch: Path
    _loops: list[Path] = field(default_factory=list[Path])

    def loop(self, size_bytes: int, *, read_only: bool = False) -> Path:
        """A new loop device."""
        backing = self.scratch / f"backing-{len(self._loops)}"
        with backing.open("wb") as file:
            file.truncate(size_bytes)
        loop = Path(run("losetup", "--show", "--find", *(["--read-only"] if read_only else []), backing))
        self._loops.append(loop)
        return loop

    def node(self, loop: Path, name: str = "sp-0") -> Path:
        """Another node of the loop device, under the root."""
        node = self.path / name
        os.mknod(node, stat.S_IFBLK | 0o600, loop.stat().st_rdev)
        return node

    def link(self, global_id: str, target: Path) -> Path:
        """As StorPool does: under another name, then renamed."""
        link = self.path / "storpool-byid" / global_id
        unfinished = link.with_name(".unfinished")
        unfinished.symlink_to(target)
        return unfinished.rename(link)

    def attached(self, global_id: str, size_bytes: int, *, read_only: bool = False) -> Path:
        """Loop device, node and link; the loop device."""
        loop = self.loop(size_bytes, read_only=read_only)
        self.link(global_id, self.node(loop, f"sp-{len(self._loops)}"))
        return loop

    def release(self, loop: Path) -> None:
        self._loops.remove(loop)
        run("losetup", "--detach", loop)

    def close(self) -> None:
        for loop in [*self._loops]:
            self.release(loop)


@contextlib.contextmanager
def device_root(scratch: Path) -> Iterator[DeviceRoot]:
    root = scratch / "dev"
    (root / "storpool-byid").mkdir(parents=True)
    devices = DeviceRoot(root, scratch)
    try:
        yield devices
    finally:
        devices.close()
