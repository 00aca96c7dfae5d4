# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The disks that are copied: a quarter is data, in islands of 1 MiB; devices are loop devices with direct I/O."""

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storpool_agent.images.model import Image
from storpool_commands.images import ImageFormat

MIB = 1 << 20
ISLAND_BYTES, PERIOD_BYTES = MIB, 4 * MIB
TOOL_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Place:
    """Where a disk is, for a program that takes paths, and for one that takes open files."""

    path: str
    format: ImageFormat
    device: bool

    @contextmanager
    def opened(self) -> Generator[Image]:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | (0 if self.device else os.O_CREAT))
        try:
            yield Image(descriptor, self.format, Path(self.path).name, device=self.device)
        finally:
            os.close(descriptor)


class Stage:
    """Sources, once; targets, a fresh one for each copy."""

    def __init__(self, directory: Path, size_bytes: int) -> None:
        self._directory, self.size_bytes = directory, size_bytes
        self.data_bytes = size_bytes // PERIOD_BYTES * ISLAND_BYTES
        self.dense = str(directory / "dense")
        """The data alone, for the floor."""
        raw, qcow2, backing = (str(directory / name) for name in ("source.raw", "source.qcow2", "source.device"))
        self._write_data(raw)
        tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
        tool("cp", "--sparse=always", raw, backing)
        self._backing = backing
        self.sources = {"file": Place(raw, "raw", False), "qcow2": Place(qcow2, "qcow2", False)}

    @contextmanager
    def running(self) -> Generator[None]:
        with _loop(self._backing) as node:
            self.sources["device"] = Place(node, "raw", True)
            yield

    @contextmanager
    def target(self, kind: str) -> Generator[Place]:
        """Nothing is in it, and nothing in the page cache."""
        path = self._directory / "target"
        path.unlink(missing_ok=True)
        if kind != "device":
            drop_caches()
            yield Place(str(path), "raw" if kind == "raw" else "qcow2", False)
            return
        path.touch()
        os.truncate(path, self.size_bytes)
        with _loop(str(path)) as node:
            drop_caches()
            yield Place(node, "raw", True)

    def _write_data(self, path: str) -> None:
        with Path(path).open("wb") as islands, Path(self.dense).open("wb") as dense:
            for offset in range(0, self.size_bytes, PERIOD_BYTES):
                data = os.urandom(ISLAND_BYTES)
                os.pwrite(islands.fileno(), data, offset)
                dense.write(data)
            islands.truncate(self.size_bytes)


@contextmanager
def _loop(backing: str) -> Generator[str]:
    node = tool("losetup", "--find", "--show", "--direct-io=on", backing)
    try:
        yield node
    finally:
        tool("losetup", "--detach", node)


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def tool(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TOOL_TIMEOUT_S)
    return done.stdout.strip()
