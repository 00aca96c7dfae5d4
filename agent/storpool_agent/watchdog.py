# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tells systemd that the agent is alive, as long as all of its loops are. For the main thread."""

from collections.abc import Callable
from time import monotonic

import structlog

from storpool_agent import liveness
from storpool_agent.liveness import Registry
from storpool_agent.notify import notify, watchdog_s

BUSY_S = 7200.0
"""Attach, detach and resize take their `timeoutS`, an hour at most, and some more; a worker that takes longer hangs."""
UNBOUNDED = ("bulk_", "migration_")
"""A copy takes as long as it takes; one that stalls is ended by its own stall timeout. A migration by its deadline."""

STOOD_STILL_S = 10.0
"""Who looks every second and finds that so many have passed was not let run, and nor were the loops."""

log = structlog.get_logger()


class Watchdog:
    """Names a stuck loop in the log when a third of systemd's patience is over, so before it strikes."""

    def __init__(
        self,
        registry: Registry,
        interval_s: float | None = None,
        clock: Callable[[], float] = monotonic,
        tell: Callable[[str], None] = notify,
    ) -> None:
        self._registry = registry
        self._interval_s = watchdog_s() if interval_s is None else interval_s
        self._clock = clock
        self._tell = tell
        self._told_at = float("-inf")
        self._looked_at = clock()
        self._busy: frozenset[str] = frozenset()
        self.stuck: tuple[str, ...] = ()
        """The loops that were stuck at the last look."""

    def look(self) -> None:
        """To be called once a second or so."""
        now = self._clock()
        if now - self._looked_at > STOOD_STILL_S:
            self._registry.resume()
        self._looked_at = now
        self._look_for_stuck()
        self._look_for_busy()
        if self._interval_s is None or self.stuck:
            return
        if now - self._told_at >= self._interval_s / 4:
            self._told_at = now
            self._tell("WATCHDOG=1")

    def _look_for_stuck(self) -> None:
        limit_s = liveness.STUCK_S if self._interval_s is None else min(liveness.STUCK_S, self._interval_s / 3)
        before, found = self.stuck, self._registry.stuck(limit_s)
        self.stuck = tuple(one.loop for one in found)
        for one in found:
            if one.loop not in before:
                log.error("loop stuck", loop=one.loop, for_s=round(one.for_s, 1), reason=one.reason)
        for loop in before:
            if loop not in self.stuck:
                log.warning("loop turns again", loop=loop)

    def _look_for_busy(self) -> None:
        busy = {name: for_s for name, for_s in self._registry.busy(BUSY_S).items() if not name.startswith(UNBOUNDED)}
        for name, for_s in busy.items():
            if name not in self._busy:
                log.warning("worker busy", worker=name, for_s=round(for_s, 1))
        self._busy = frozenset(busy)
