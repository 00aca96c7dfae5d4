# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a host sees of a block device, past the page cache."""

import contextlib
import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BLOCK_BYTES = 4096


def size_of(device: Path) -> int:
    with opened(device) as fd:
        return os.lseek(fd, 0, os.SEEK_END)


def is_read_only(device: Path) -> bool:
    number = device.stat().st_rdev
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/ro").read_text().strip() == "1"


def write_block(device: Path, content: bytes, block: int = 0) -> None:
    with opened(device, os.O_WRONLY | os.O_DIRECT) as fd, mmap.mmap(-1, BLOCK_BYTES) as page:
        page.write(content.ljust(BLOCK_BYTES, b"\0"))
        os.pwritev(fd, [page], block * BLOCK_BYTES)


def read_block(device: Path, block: int = 0) -> bytes:
    with opened(device, os.O_RDONLY | os.O_DIRECT) as fd, mmap.mmap(-1, BLOCK_BYTES) as page:
        os.preadv(fd, [page], block * BLOCK_BYTES)
        return page[:].rstrip(b"\0")


@contextlib.contextmanager
def opened(device: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(device, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def eventually(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
