# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Worker threads: `fast` for what takes moments, `bulk` for what takes minutes. Neither waits for the other."""

import queue
import threading
from collections.abc import Callable

from storpool_agent.deadline import Deadline

Work = Callable[[], None]


class Lane:
    """A fixed number of threads that take work in order. The work raises nothing."""

    def __init__(self, name: str, workers: int) -> None:
        self.name = name
        self.workers = workers
        self._running: set[int] = set()
        """Which of the threads are at work; each adds and removes itself."""
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._draining = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"{name}_{n}") for n in range(workers)]

    @property
    def running(self) -> int:
        """How many of the threads are at work."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """How much waits for a free thread."""
        return self._work.qsize()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, work: Work) -> None:
        """Have the work done by the next free thread. Any thread may call this."""
        self._work.put(work)

    def drain(self) -> None:
        """Finish what runs, and start nothing more: what is queued stays in the journal."""
        self._draining.set()
        for _ in self._threads:
            self._work.put(None)

    def join(self, deadline: Deadline) -> bool:
        """Wait for the threads; False when some are still at work at the deadline."""
        for thread in self._threads:
            thread.join(deadline.remaining_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if not self._draining.is_set():
                self._running.add(threading.get_ident())
                work()
                self._running.discard(threading.get_ident())
