# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why work that takes long is to end now, for whoever waits in it."""

import os
import select
import threading
from collections.abc import Callable
from datetime import datetime

from storpool_agent.errors import DeadlinePassed
from storpool_agent.expiry import Expiry

LONGEST_WAIT_S = 3600.0
"""Of one wait: a step of the wall clock, which the deadline is told by, is noticed by then."""


class AgentStopping(Exception):
    """The agent ends before its work does: nothing is undone and nothing answered, the next start goes on with it."""


class Interrupt:
    """Set once, by whichever reason comes first. Any thread may call any method; close it once nobody waits."""

    def __init__(self, deadline: datetime | None = None) -> None:
        self._expiry = Expiry(deadline) if deadline else None
        self._mutex = threading.Lock()
        self._reason: Exception | None = None
        self._told: list[Callable[[], None]] = []
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def close(self) -> None:
        with self._mutex:
            event, self._event = self._event, -1
        if event >= 0:
            os.close(event)

    def set(self, reason: Exception) -> None:
        """Raise this from `check` from now on, unless another reason came before."""
        with self._mutex:
            if self._reason is not None:
                return
            self._reason = reason
            if self._event >= 0:
                os.eventfd_write(self._event, 1)
            told, self._told = self._told, []
        for tell in told:
            tell()

    def tell(self, wake: Callable[[], None]) -> None:
        """Have somebody woken who waits for something else than this; at once when there is a reason already."""
        with self._mutex:
            if self._reason is None:
                self._told.append(wake)
                return
        wake()

    @property
    def deadline(self) -> datetime | None:
        return self._expiry.at if self._expiry else None

    @property
    def reason(self) -> Exception | None:
        return self._reason

    def check(self) -> None:
        """Raise the reason, or DeadlinePassed, or return."""
        if self._reason is not None:
            raise self._reason
        if self._expiry is not None and self._expiry.passed:
            raise DeadlinePassed(f"its deadline {self._expiry.at.isoformat()} has passed; it was stopped")

    def fileno(self) -> int:
        """Readable once a reason is set; for a poll beside others. The deadline is for `within` to tell."""
        return self._event

    def within(self, timeout_s: float) -> float:
        """The shorter of the two: how long a poll may last."""
        return max(0.0, min(timeout_s, self._remaining_s()))

    def wait(self, timeout_s: float) -> None:
        """Wait for so long; raises as `check` does, as soon as there is reason to."""
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        poll.poll(self.within(timeout_s) * 1000)
        self.check()

    def _remaining_s(self) -> float:
        return LONGEST_WAIT_S if self._expiry is None else self._expiry.remaining_s
