# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A plain block device for where a StorPool volume would say nothing more."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND_TIMEOUT_S = 20.0
MIB = 1 << 20


@contextmanager
def loop_device(backing: Path, size_mib: int) -> Iterator[Path]:
    """A loop device over a sparse file that is made for it."""
    with backing.open("xb") as file:
        file.truncate(size_mib * MIB)
    device = Path(_losetup("--find", "--show", str(backing)))
    try:
        yield device
    finally:
        _losetup("--detach", str(device))
        backing.unlink()


def grow(device: Path, backing: Path, size_mib: int) -> None:
    """As when a volume is resized: the kernel tells everybody who has it open."""
    with backing.open("r+b") as file:
        file.truncate(size_mib * MIB)
    _losetup("--set-capacity", str(device))


def _losetup(*arguments: str) -> str:
    return subprocess.run(
        ["losetup", *arguments], capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT_S
    ).stdout.strip()
