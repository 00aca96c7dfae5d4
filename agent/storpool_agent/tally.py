# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How much is under way on this host, and for how long it has waited. Pure: from the jobs to numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

from storpool_agent.job import Job


@dataclass(frozen=True)
class LaneTally:
    """Of what takes about as long."""

    running: int
    queued: int
    """Waiting for a worker, or for an object that another command has."""
    oldest_s: float
    """How long the oldest of those has waited since it came, or since the agent was started; 0 when none waits."""


@dataclass(frozen=True)
class Tally:
    """Of what is accepted and not finished."""

    fast: LaneTally
    bulk: LaneTally
    """Copies, and machines that move to another host."""


def tally(jobs: Iterable[Job], now: float) -> Tally:
    """`now` on the monotonic clock."""
    listed = list(jobs)
    return Tally(_lane([job for job in listed if not job.bulk], now), _lane([job for job in listed if job.bulk], now))


def _lane(jobs: list[Job], now: float) -> LaneTally:
    waiting = [job.queued_at for job in jobs if job.attempt is None]
    return LaneTally(len(jobs) - len(waiting), len(waiting), now - min(waiting) if waiting else 0.0)
