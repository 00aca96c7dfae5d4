# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A sender's deadline, on a host whose clock may be set."""

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

SKEW_S = 60.0
"""A step of the clock that is smaller expires nothing: many requests wait, and all would be refused at once."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Expiry:
    """Of the wall clock, since a deadline must mean the same after a restart; small steps of that clock are left out.

    Where the clock has been set forward, a deadline has passed when it also has by a clock that nobody sets, or by more
    than SKEW_S: then the step was a correction, and the wall clock is the one to believe. Without a step the two agree.
    """

    def __init__(
        self, at: datetime, wall: Callable[[], datetime] = _utc_now, steady: Callable[[], float] = monotonic
    ) -> None:
        self.at = at
        self._wall = wall
        self._steady = steady
        self._ends_at = steady() + self._by_wall()

    @property
    def remaining_s(self) -> float:
        """Until it passes; 0 when it has."""
        by_wall = self._by_wall()
        if by_wall > 0:
            return by_wall
        return max(0.0, min(self._ends_at - self._steady(), by_wall + SKEW_S))

    @property
    def passed(self) -> bool:
        return self.remaining_s <= 0

    def _by_wall(self) -> float:
        return (self.at - self._wall()).total_seconds()
