# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A file system on a loop device, of a size that a test can fill, as long as its `with` block."""

import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Literal

MIB = 1 << 20
IMAGE = "image"
COMMAND_TIMEOUT_S = 30.0
Kind = Literal["ext4", "xfs"]
SMALLEST_MIB: dict[Kind, int] = {"ext4": 16, "xfs": 300}
"""mkfs.xfs refuses less."""
EXT4_INODES = 128
MAKE: dict[Kind, list[str]] = {"ext4": ["mkfs.ext4", "-q", "-F", "-N", str(EXT4_INODES)], "xfs": ["mkfs.xfs", "-q"]}


class LoopFileSystem:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Until not a block is free, but for what the file system keeps for itself."""
        with self._filler.open("wb", buffering=0) as file:
            for chunk in (16 * MIB, MIB, 4096):
                size = file.seek(0, os.SEEK_END)
                while _allocated(file.fileno(), size, chunk):
                    size += chunk

    def use_up_inodes(self) -> None:
        """Until no file can be made; of ext4, which has a fixed number of them."""
        with suppress(OSError):
            for number in count():
                (self.path / f"inode-{number}").touch()

    def free(self) -> None:
        self._filler.unlink()

    def shut_down(self) -> None:
        """As a disk that fails does: every call is EIO from now on. XFS alone."""
        _run("xfs_io", "-x", "-c", "shutdown", str(self.path))

    def mount_again(self) -> None:
        """As after a repair: what was flushed is there. Nobody may use it meanwhile.

        On another loop device, with the UUID of the first: a process with mounts of its own (a QEMU, a udevd) may have
        kept the file system that has failed.
        """
        _run("umount", str(self.path))
        image = str(self.path.parent / IMAGE)
        found = subprocess.run(
            ["losetup", "--find", "--show", image],
            check=True,
            timeout=COMMAND_TIMEOUT_S,
            stdout=subprocess.PIPE,
            text=True,
        )
        _run("mount", "-o", "nouuid", found.stdout.strip(), str(self.path))
        _run("losetup", "--detach", found.stdout.strip())  # as soon as it is unmounted


@contextmanager
def loop_file_system(kind: Kind) -> Generator[LoopFileSystem]:
    with tempfile.TemporaryDirectory(prefix=f"{kind}-") as directory:
        image, point = Path(directory, IMAGE), Path(directory, "mounted")
        point.mkdir()
        with image.open("wb") as file:
            file.truncate(SMALLEST_MIB[kind] * MIB)
        _run(*MAKE[kind], str(image))
        _run("mount", "-o", "loop", str(image), str(point))
        try:
            yield LoopFileSystem(point)
        finally:
            _run("umount", str(point))


def _allocated(descriptor: int, offset: int, length: int) -> bool:
    try:
        os.posix_fallocate(descriptor, offset, length)
    except OSError:
        return False
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=COMMAND_TIMEOUT_S)
