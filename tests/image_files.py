# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the image tools work on: tasks, disks with known contents, and file systems that fail."""

import os
import random
import subprocess
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from block_device import eventually
from loop_device import MIB, LoopDevice, loop_device
from storpool_agent.images.model import Image, Task
from storpool_agent.interrupt import Interrupt
from storpool_commands.images import ImageFormat

TOOL_TIMEOUT_S = 60.0
FILE_SYSTEM_BYTES = 400 * MIB  # mkfs.xfs refuses less than 300 MiB


@dataclass
class Watched:
    """A task, and what was reported of it."""

    interrupt: Interrupt
    reports: list[tuple[int, int | None]] = field(default_factory=list)
    on_report: Callable[[], object] = lambda: None

    @property
    def task(self) -> Task:
        return Task(self.interrupt, self._heard, io_priority="normal")

    def with_stall_timeout(self, timeout_s: float) -> Task:
        return replace(self.task, stall_timeout_s=timeout_s)

    def with_bandwidth(self, bytes_s: int) -> Task:
        return replace(self.task, bandwidth_bytes_s=bytes_s)

    def _heard(self, done: int, total: int | None) -> None:
        self.reports.append((done, total))
        self.on_report()


@contextmanager
def watched(interrupt: Interrupt | None = None) -> Generator[Watched]:
    used = interrupt or Interrupt()
    try:
        yield Watched(used)
    finally:
        used.close()


def disk_contents(size_bytes: int) -> bytes:
    """Islands of data in zeroes: some small, one at each end, one over a boundary of 4 MiB."""
    contents = bytearray(size_bytes)
    generator = random.Random(size_bytes)  # noqa: S311 - the same each time
    for begin, length in ((0, 5000), (MIB, 3), (4 * MIB - 700, 1400), (9 * MIB, MIB), (size_bytes - 40, 40)):
        end = min(begin + length, size_bytes)
        if 0 <= begin < end:
            contents[begin:end] = generator.randbytes(end - begin)
    return bytes(contents)


def write_sparse(path: Path, contents: bytes, block: int = 4096) -> Path:
    """Without the blocks that are zero."""
    with path.open("wb") as file:
        for offset in range(0, len(contents), block):
            piece = contents[offset : offset + block]
            if any(piece):
                os.pwrite(file.fileno(), piece, offset)
        file.truncate(len(contents))
        os.fsync(file.fileno())
    return path


@contextmanager
def image(path: Path | str, kind: ImageFormat = "raw", *, device: bool = False) -> Generator[Image]:
    """Opened for reading and writing; a file is made when there is none."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (0 if device else os.O_CREAT))
    try:
        yield Image(descriptor, kind, Path(path).name, device=device)
    finally:
        os.close(descriptor)


@contextmanager
def device_with(contents: bytes) -> Generator[LoopDevice]:
    with loop_device(len(contents), direct_io=True) as device:
        with Path(device.node).open("wb") as node:
            node.write(contents)
            node.flush()
            os.fsync(node.fileno())
        yield device


@contextmanager
def loop_over(backing: Path) -> Generator[str]:
    """A node over a file of the caller's, who can take away what the file is on as soon as the block ends."""
    node = tool("losetup", "--find", "--show", str(backing))
    try:
        yield node
    finally:
        tool("losetup", "--detach", node)
        bound = Path("/sys/block", Path(node).name, "loop")
        eventually(lambda: not bound.exists())  # udev may still look at it: it is then let go of a little later


def qcow2_with(path: Path, contents: bytes, *options: str) -> Path:
    """Made by plain qemu-img."""
    raw = write_sparse(path.with_suffix(".made-from"), contents)
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(path))
    raw.unlink()
    return path


def contents_of(path: Path | str, kind: ImageFormat, length: int) -> bytes:
    """Of the disk in it, as plain qemu-img reads it."""
    with tempfile.NamedTemporaryFile() as raw:
        tool("qemu-img", "convert", "-f", kind, "-O", "raw", str(path), raw.name)
        return Path(raw.name).read_bytes()[:length]


def cached_bytes(path: Path) -> int:
    return int(tool("fincore", "--bytes", "--noheadings", "--output", "RES", str(path)) or 0)


def forget_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def xfs() -> Generator[Path]:
    """A file system of a test's own, which `shut_down` fails."""
    with loop_device(FILE_SYSTEM_BYTES) as device, tempfile.TemporaryDirectory(prefix="xfs-") as directory:
        tool("mkfs.xfs", "-q", device.node)
        with mounted(device, Path(directory)):
            yield Path(directory)


@contextmanager
def mounted(device: LoopDevice, directory: Path) -> Generator[None]:
    tool("mount", device.node, str(directory))
    try:
        yield
    finally:
        tool("umount", str(directory))


def shut_down(file_system: Path) -> None:
    """As when its device fails: nothing more is written, not even what was done before, and every call is EIO."""
    tool("xfs_io", "-x", "-c", "shutdown", str(file_system))


def holders_of(path: Path) -> set[int]:
    """Processes besides this one that have it open."""
    found: set[int] = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.resolve() == path.resolve():
                found.add(int(link.parts[2]))
        except OSError:
            continue  # it has just ended
    return found - {os.getpid()}


def descendants(pid: int | None = None) -> list[int]:
    """Of this process, parents before their children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid or os.getpid()}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def alive(pid: int) -> bool:
    """Not gone, and not waiting for its parent alone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def tool(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TOOL_TIMEOUT_S)
    return done.stdout.strip()
