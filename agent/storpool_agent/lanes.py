# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Worker threads, by how long their work takes: no lane waits for another."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Literal, Self

from storpool_agent import liveness
from storpool_agent.deadline import Deadline

Work = Callable[[], None]
LaneName = Literal["fast", "bulk", "migration"]
"""Of those that run commands."""
CONTROL_WORKERS = 2


class Lane:
    """Some threads that take work in order. The work raises nothing. Any thread may call any method."""

    def __init__(self, name: str, workers: int) -> None:
        self.name = name
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._put_at: deque[float] = deque()
        """Of the work that waits. Beside the queue, which cannot be looked into; in its order, but for instants."""
        self._busy: set[str] = set()
        self._draining = threading.Event()
        self._mutex = threading.Lock()
        self._wanted = workers
        self._staying = 0
        """Workers that have not been told to leave."""
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self.resize(self._wanted)

    def resize(self, workers: int) -> None:
        """Have so many threads. One that is too many ends when it has done what it does."""
        with self._mutex:
            if self._draining.is_set():
                return
            self._wanted = workers
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            surplus = self._staying - workers
            fresh = [self._thread() for _ in range(-surplus)]
            self._staying += len(fresh)
        for thread in fresh:
            thread.start()
        self._wake(surplus)

    def put(self, work: Work) -> None:
        """Have the work done by the next free thread."""
        self._put_at.append(monotonic())
        self._work.put(work)

    @property
    def workers(self) -> int:
        return len(self._threads)

    @property
    def active(self) -> int:
        """How many threads are at work."""
        return len(self._busy)

    @property
    def queued(self) -> int:
        """How much work waits for a thread."""
        return len(self._put_at)

    @property
    def oldest_s(self) -> float:
        """How long the first in the queue has waited; 0 when nothing waits."""
        try:
            return monotonic() - self._put_at[0]
        except IndexError:
            return 0.0

    def drain(self) -> None:
        """Finish what runs, and start nothing more: what is queued stays in the journal."""
        with self._mutex:
            self._draining.set()
        self._wake(len(self._threads))

    def join(self, deadline: Deadline) -> bool:
        """Wait for the threads; False when some are still at work at the deadline."""
        for thread in self._threads:
            thread.join(deadline.remaining_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _thread(self) -> threading.Thread:
        taken = {thread.name for thread in self._threads}
        name = next(name for n in range(len(taken) + 1) if (name := f"{self.name}_{n}") not in taken)
        thread = threading.Thread(target=self._run, name=name)
        self._threads.append(thread)
        return thread

    def _wake(self, workers: int) -> None:
        for _ in range(workers):
            self._work.put(None)

    def _run(self) -> None:
        me = threading.current_thread().name
        with liveness.registry.loop(me) as loop:
            while self._stays():
                loop.waits()
                work = self._work.get()
                if work is None:
                    continue
                self._put_at.popleft()
                if not self._draining.is_set():
                    loop.works()
                    self._busy.add(me)
                    work()
                    self._busy.discard(me)

    def _stays(self) -> bool:
        with self._mutex:
            if self._draining.is_set():
                return False
            if self._staying > self._wanted:
                self._staying -= 1
                return False
            return True


@dataclass(frozen=True)
class Lanes:
    """All of an agent's."""

    fast: Lane
    """What takes moments: attach, detach, resize."""
    bulk: Lane
    """Copies."""
    migration: Lane
    """Machines that move to another host: one that is emptied must not wait until its copies are done."""
    control: Lane
    """Control commands that ask StorPool or libvirt."""

    @classmethod
    def wide(cls, fast: int, bulk: int, migration: int) -> Self:
        """With so many workers."""
        control = Lane("control", CONTROL_WORKERS)
        return cls(Lane("fast", fast), Lane("bulk", bulk), Lane("migration", migration), control)

    def __iter__(self) -> Iterator[Lane]:
        yield from (self.fast, self.bulk, self.migration, self.control)

    def named(self, name: LaneName) -> Lane:
        return {"fast": self.fast, "bulk": self.bulk, "migration": self.migration}[name]
