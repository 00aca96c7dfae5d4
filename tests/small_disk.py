# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A file system that a test can fill, or make read-only."""

import errno
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MOUNT_TIMEOUT_S = 20.0
CHUNK = bytes(64 * 1024)


class SmallDisk:
    """A tmpfs of a test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Until not a byte is free."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (len(CHUNK), 4096, 1):
                while _wrote(filler, CHUNK[:size]):
                    continue

    def free(self) -> None:
        self._filler.unlink()

    def read_only(self) -> None:
        _run("mount", "-o", "remount,ro", str(self.path))


@contextmanager
def small_disk(size_mib: int) -> Iterator[SmallDisk]:
    """Mounted until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="small-disk-") as directory:
        _run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", directory)
        try:
            yield SmallDisk(Path(directory))
        finally:
            _run("umount", directory)


def _wrote(filler: BinaryIO, data: bytes) -> bool:
    try:
        return bool(filler.write(data))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=MOUNT_TIMEOUT_S)
