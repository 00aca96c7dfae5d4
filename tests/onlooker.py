# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Somebody who looks, all the time, at what the kernel shows of a process and of every child that it starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread


class Onlooker:
    """Knows the arguments and the environment of each process that it has seen, by pid."""

    def __init__(self) -> None:
        self.seen: dict[int, bytes] = {}
        self._stopping = Event()

    def look_until_stopped(self, pid: int) -> None:
        while not self._stopping.is_set():
            self._look(pid)

    def stop(self) -> None:
        self._stopping.set()

    def _look(self, pid: int) -> None:
        """Anew each time: what was between fork and exec is another program now."""
        shown = b"".join(_read(Path(f"/proc/{pid}/{name}")) for name in ("cmdline", "environ"))
        if shown not in self.seen.get(pid, b""):
            self.seen[pid] = self.seen.get(pid, b"") + shown
        for child in _children(pid):
            self._look(child)


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    return [int(child) for task in tasks for child in _read(task / "children").split()]


def _read(path: Path) -> bytes:
    """Nothing of a process that has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def watching(pid: int) -> Iterator[Onlooker]:
    """From now on, until the end of the block."""
    onlooker = Onlooker()
    thread = Thread(target=onlooker.look_until_stopped, args=(pid,), name="onlooker")
    thread.start()
    try:
        yield onlooker
    finally:
        onlooker.stop()
        thread.join()
