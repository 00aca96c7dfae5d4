# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How far a copy is: taken down whenever there is news, published about once a second while copies run."""

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from storpool_commands.control import JobProgress

WINDOW_S = 10.0
"""The rate is that of so long: of a shorter time it jumps, of a longer one it tells of the past."""
STALLED_S = 5.0
"""A copy that has not moved for so long is said to stand still."""


class Meter:
    """One writes, anybody reads."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._phase: str | None = None
        self._total: int | None = None
        self._seen: deque[tuple[float, int | None]] = deque()
        """When which number of bytes was first seen, the newest last."""

    def note(self, phase: str, done: int | None, total: int | None) -> int:
        """Where the job is now. Returns by how many bytes it has moved on in this phase."""
        now = self._clock()
        with self._mutex:
            before = (self._seen[-1][1] or 0) if self._seen and phase == self._phase else 0
            if phase != self._phase:
                self._phase = phase
                self._seen.clear()
            self._total = total
            if not self._seen or self._seen[-1][1] != done:
                self._seen.append((now, done))
            while len(self._seen) > 2 and self._seen[1][0] < now - WINDOW_S:
                self._seen.popleft()
        return max(0, (done or 0) - before)

    def read(self) -> JobProgress | None:
        """None before the first note."""
        with self._mutex:
            if self._phase is None:
                return None
            now = self._clock()
            moved_at, done = self._seen[-1]
            rate = self._rate(now)
            still_s = now - moved_at
            left = None if done is None or self._total is None else max(0, self._total - done)
            return JobProgress(
                phase=self._phase,
                bytes_done=done,
                bytes_total=self._total,
                rate_bytes_s=rate,
                eta_s=round(left / rate, 1) if left is not None and rate else None,
                stalled_s=round(still_s, 1) if done is not None and still_s >= STALLED_S else None,
            )

    @property
    def percent(self) -> int | None:
        """Of the present phase, where that is known."""
        reading = self.read()
        if reading is None or reading.bytes_done is None or not reading.bytes_total:
            return None
        return min(100, 100 * reading.bytes_done // reading.bytes_total)

    def _rate(self, now: float) -> int | None:
        first_at, first = self._seen[0]
        last_at, last = self._seen[-1]
        if first is None or last is None or now - first_at < 0.1:
            return None
        if now - last_at >= WINDOW_S:
            return 0
        return max(0, int((last - first) / (now - first_at)))
