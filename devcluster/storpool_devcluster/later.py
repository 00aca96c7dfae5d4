# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Things that happen by themselves at a later time: links that come late, snapshots that expire."""

import heapq
import logging
import time
from collections.abc import Callable
from itertools import count
from threading import Condition, Thread

log = logging.getLogger(__name__)


class Later:
    """One thread that runs each action at its time. What is still due when it stops is forgotten."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._changed = Condition()
        self._stopping = False
        self._thread = Thread(target=self._run, name="later")
        self._thread.start()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))
            self._changed.notify()

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        def again() -> None:
            action()
            self.after(seconds, again)

        self.after(seconds, again)

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:
                log.exception("a delayed action failed")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._stopping:
                left = self._due[0][0] - time.monotonic() if self._due else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(left)
        return None
