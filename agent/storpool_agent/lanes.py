# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Worker threads: `fast` for what takes moments, `bulk` for what takes minutes. Neither waits for the other."""

import queue
import threading
from collections.abc import Callable

from storpool_agent import liveness
from storpool_agent.deadline import Deadline

Work = Callable[[], None]


class Lane:
    """Some threads that take work in order. The work raises nothing. Any thread may call any method."""

    def __init__(self, name: str, workers: int) -> None:
        self.name = name
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
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
        self._work.put(work)

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
        with liveness.registry.loop(threading.current_thread().name) as loop:
            while self._stays():
                loop.waits()
                work = self._work.get()
                if work is not None and not self._draining.is_set():
                    loop.works()
                    work()

    def _stays(self) -> bool:
        with self._mutex:
            if self._draining.is_set():
                return False
            if self._staying > self._wanted:
                self._staying -= 1
                return False
            return True
