# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the host's clock was set."""

import threading
from collections.abc import Callable
from time import CLOCK_BOOTTIME, clock_gettime, time

import structlog

from storpool_agent import metrics

JUMP_S = 60.0
"""What NTP slews in a day is less."""
WARY_S = 24 * 3600.0
"""How long nothing is forgotten after that: the clock may be set back, and then what looked old is not."""

log = structlog.get_logger()


def _since_boot() -> float:
    return clock_gettime(CLOCK_BOOTTIME)


class ClockWatch:
    """Compares the wall clock with the time since boot, which nobody sets. Any thread may call any method."""

    def __init__(self, wall: Callable[[], float] = time, boot: Callable[[], float] = _since_boot) -> None:
        self._wall = wall
        self._boot = boot
        self._mutex = threading.Lock()
        self._offset_s = wall() - boot()
        self._jumped_at: float | None = None

    def look(self) -> None:
        """To be called often, and before the age of anything stored is judged."""
        with self._mutex:
            boot = self._boot()
            by_s = self._wall() - boot - self._offset_s
            if abs(by_s) <= JUMP_S:
                return
            self._offset_s += by_s
            self._jumped_at = boot
        metrics.clock_jumped()
        log.warning("clock jumped", by_s=round(by_s, 1))

    @property
    def is_doubtful(self) -> bool:
        """It has jumped within WARY_S."""
        return self._jumped_at is not None and self._boot() - self._jumped_at < WARY_S
