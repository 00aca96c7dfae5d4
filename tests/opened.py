# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether anybody has opened a file: the kernel says so (inotify)."""

import ctypes
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

IN_OPEN = 0x20
_LIBC = ctypes.CDLL(None, use_errno=True)


class Opened:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __bool__(self) -> bool:
        """Since the last time this was asked."""
        try:
            return bool(os.read(self._descriptor, 4096))
        except BlockingIOError:
            return False


@contextmanager
def watched(path: Path) -> Generator[Opened]:
    descriptor = _LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        if _LIBC.inotify_add_watch(descriptor, os.fsencode(path), IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), f"inotify_add_watch {path}")
        yield Opened(descriptor)
    finally:
        os.close(descriptor)
