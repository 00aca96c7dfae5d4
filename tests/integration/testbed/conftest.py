# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Plain block devices for the guests to use."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

COMMAND_TIMEOUT_S = 20.0
MIB = 1 << 20

MakeDevice = Callable[[int], Path]


@pytest.fixture
def make_device(tmp_path: Path) -> Iterator[MakeDevice]:
    """A loop device of so many MiB over a sparse file."""
    with ExitStack() as ending:

        def make(size_mib: int) -> Path:
            device = Path(run("losetup", "--find", "--show", str(sparse_file(tmp_path, size_mib))))
            ending.callback(run, "losetup", "--detach", str(device))
            return device

        yield make


@pytest.fixture
def device(make_device: MakeDevice) -> Path:
    return make_device(32)


def sparse_file(directory: Path, size_mib: int) -> Path:
    path = directory / f"disk-{len(list(directory.iterdir()))}"
    with path.open("wb") as file:
        file.truncate(size_mib * MIB)
    return path


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT_S).stdout.strip()
