# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A block device that is a file, with a link to it as StorPool's devices have, as long as its `with` block."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

MIB = 1024 * 1024
COMMAND_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class LoopDevice:
    link: str
    node: str
    backing: Path

    def grow(self, size_bytes: int) -> None:
        with self.backing.open("r+b") as backing:
            backing.truncate(size_bytes)
        _run("losetup", "--set-capacity", self.node)


@contextmanager
def loop_device(size_bytes: int = 8 * MIB, *, direct_io: bool = False) -> Generator[LoopDevice]:
    """`direct_io`: past the page cache of the file system that the file is on, too."""
    with TemporaryDirectory(prefix="loop-") as directory:
        backing, link = Path(directory, "image"), Path(directory, "link")
        backing.touch()
        with backing.open("r+b") as opened:
            opened.truncate(size_bytes)
        options = ("--direct-io=on",) if direct_io else ()
        node = _run("losetup", "--find", "--show", *options, str(backing))
        try:
            link.symlink_to(node)
            yield LoopDevice(str(link), node, backing)
        finally:
            _run("losetup", "--detach", node)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT_S)
    return done.stdout.strip()
