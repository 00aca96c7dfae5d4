# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who may work on an object: one at a time, in the order in which they came."""

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

from storpool_agent.interrupt import LONGEST_WAIT_S, Interrupt


class Turn:
    """A place in the queues of some objects. It comes when it is first in all of them."""

    def __init__(self, keys: frozenset[str], start: Callable[[], None]) -> None:
        self.keys = keys
        self.start = start
        self.ahead = 0
        """In how many queues somebody stands before it."""


class Locks:
    """Locks that are queued for, not waited for: a worker that has nothing to do yet is never blocked.

    A turn enters all its queues in one step, so two turns stand in the same order in every queue they share, and
    no circle of waiting can form. Any thread may call any method; `start` is called without the lock held.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queues: dict[str, deque[Turn]] = {}

    def enter(self, turn: Turn) -> None:
        """Queue for the objects; its `start` is called when the turn comes, at once if all are free."""
        with self._mutex:
            for key in turn.keys:
                queue = self._queues.setdefault(key, deque())
                turn.ahead += bool(queue)
                queue.append(turn)
            come = not turn.ahead
        if come:
            turn.start()

    def leave(self, turn: Turn) -> None:
        """Give the objects up; whoever has its turn now is started. Only a turn that has come may leave."""
        come: list[Turn] = []
        with self._mutex:
            for key in turn.keys:
                queue = self._queues[key]
                queue.popleft()
                if not queue:
                    del self._queues[key]
                    continue
                queue[0].ahead -= 1
                if not queue[0].ahead:
                    come.append(queue[0])
        for one in come:
            one.start()

    def ahead(self, turn: Turn) -> list[Turn]:
        """Those that stand before it in any of its queues; some of them may have come."""
        with self._mutex:
            queues = [list(self._queues.get(key, ())) for key in turn.keys]
        before = [one for queue in queues if turn in queue for one in queue[: queue.index(turn)]]
        return list(dict.fromkeys(before))


class HeldTurns:
    """The turns of one job that takes long. One thread uses it."""

    def __init__(self, locks: Locks, turns: list[Turn], interrupt: Interrupt | None = None) -> None:
        """`interrupt` ends the waits that nothing else does."""
        self._locks = locks
        self._turns = turns
        self._interrupt = interrupt

    def give_up(self) -> None:
        for turn in reversed(self._turns):
            self._locks.leave(turn)
        self._turns.clear()

    @contextmanager
    def again(self, global_id: str, interrupt: Interrupt | None) -> Generator[None]:
        """Wait for it. An interrupt ends the wait; the place in the queue is left when it comes up."""
        key = volume_key(global_id)
        if any(key in turn.keys for turn in self._turns):
            yield
            return
        turn = self._wait(key, interrupt or self._interrupt)
        try:
            yield
        finally:
            self._locks.leave(turn)

    def _wait(self, key: str, interrupt: Interrupt | None) -> Turn:
        come, woken = threading.Event(), threading.Event()
        given_up = threading.Lock()

        def start() -> None:
            come.set()
            woken.set()
            if not given_up.acquire(blocking=False):
                self._locks.leave(turn)

        turn = Turn(frozenset({key}), start)
        self._locks.enter(turn)
        if interrupt is not None:
            interrupt.tell(woken.set)
        while not come.is_set():
            woken.wait(None if interrupt is None else interrupt.within(LONGEST_WAIT_S))
            try:
                if interrupt is not None and not come.is_set():
                    interrupt.check()
            except Exception:
                if given_up.acquire(blocking=False):
                    raise
                break
        return turn


def volume_key(global_id: str) -> str:
    """What the queue for a volume or snapshot is called."""
    return f"volume:{global_id}"
