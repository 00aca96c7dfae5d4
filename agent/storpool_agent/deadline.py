# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Time as a point that is reached once, however many waits are made on the way."""

from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True)
class Deadline:
    """A point of monotonic time. It means nothing in another process: never store it."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - monotonic())

    @property
    def passed(self) -> bool:
        return monotonic() >= self.at

    def within(self, seconds: float) -> "Deadline":
        """This deadline, or the given number of seconds from now if that is sooner."""
        return Deadline(min(self.at, monotonic() + seconds))
