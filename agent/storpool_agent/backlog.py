# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How much may wait on this host before it leaves more of it to the broker."""

from time import monotonic

from storpool_agent.jobs import Jobs
from storpool_agent.tally import tally

TAKE_AGAIN = 0.75
"""What has been worked off before more is taken: enough is left that no worker waits."""


class Backlog:
    """Any thread may call any method."""

    def __init__(self, jobs: Jobs, max_queued: int) -> None:
        self._jobs = jobs
        self.max_queued = max_queued

    def is_over(self, *, again: bool) -> bool:
        """Copies have a limit of their own: nothing else waits behind them."""
        waiting = tally(self._jobs.unfinished(), monotonic()).fast.queued
        return waiting >= self.max_queued * (TAKE_AGAIN if again else 1)
