# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is asked when somebody scrapes or probes: which part of the agent knows the answer to each reading and check.

A new gauge of what is the case gets its reader in `connect`, a new condition for serving commands in `require`.
"""

import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import time

from storpool_agent import liveness, metrics
from storpool_agent.bus.consumer import DRAIN, Consumer
from storpool_agent.bus.publisher import Publisher
from storpool_agent.domains.hypervisor import Hypervisor
from storpool_agent.drift_watch import DriftWatch
from storpool_agent.health import Health
from storpool_agent.job import Job
from storpool_agent.jobs import Jobs
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Journal
from storpool_agent.lanes import Lanes
from storpool_agent.liveness import Stuck


def require(health: Health, consumer: Consumer, publisher: Publisher, database: Database) -> None:
    """What has to be so for commands to be served. StorPool and libvirt are not in it: a command that needs them and
    fails is an answer."""
    down = "no connection to the broker; `broker unreachable` or `broker lost` in the log says why"
    health.needed("broker-in", lambda: None if consumer.link.is_ready else down)
    health.needed("broker-out", lambda: None if publisher.link.is_ready else down)
    health.needed("journal", database.trouble)
    drained = "drained: commands are left in their queues until `drain` is off"
    health.needed("drain", lambda: drained if DRAIN in consumer.held else None)
    health.needed("held", lambda: _held_back(consumer.held - {DRAIN}))
    health.vital("loops", lambda: _stuck(liveness.registry.stuck()))


def connect(
    *,
    health: Health,
    consumer: Consumer,
    publisher: Publisher,
    hypervisor: Hypervisor,
    jobs: Jobs,
    lanes: Lanes,
    journal: Journal,
    database: Database,
    state_dir: Path,
    drift_watch: DriftWatch,
) -> None:
    """Have every reading read."""
    _health(health)
    _lanes(lanes)
    _journal(journal, database, state_dir)
    metrics.DRAINING.is_number(lambda: DRAIN in consumer.held)
    metrics.DRIFT.read_by(lambda: _drift(drift_watch))
    metrics.BROKER_CONNECTED.read_by(lambda: {each.name: each.is_ready for each in (consumer.link, publisher.link)})
    metrics.LIBVIRT_CONNECTED.is_number(lambda: hypervisor.connected)
    metrics.REQUESTS.read_by(lambda: _by_state(jobs.unfinished()))
    metrics.COPIES.read_by(lambda: _by_state(jobs.copies()))
    metrics.COPY_STALLED.is_number(lambda: _stalled_s(jobs))


def _held_back(reasons: frozenset[str]) -> str | None:
    return f"commands are left in their queues: {', '.join(sorted(reasons))}" if reasons else None


def _stuck(loops: Sequence[Stuck]) -> str | None:
    return "; ".join(f"{one.loop} for {one.for_s:.0f} s: {one.reason}" for one in loops) or None


def _drift(watch: DriftWatch) -> dict[str, float]:
    """Before the first look nothing is known, and nothing told."""
    if watch.scanned_at is None:
        return {}
    counts = Counter[str](one.kind for one in watch.findings)
    return {kind: counts[kind] for kind in metrics.DRIFT_KINDS}


def _health(health: Health) -> None:
    metrics.READY.is_number(lambda: not health.missing())
    metrics.CHECK_PASSING.read_by(lambda: {name: wrong is None for name, wrong in health.checks().items()})


def _lanes(lanes: Lanes) -> None:
    metrics.LANE_WORKERS.read_by(lambda: {lane.name: lane.workers for lane in lanes})
    metrics.LANE_ACTIVE.read_by(lambda: {lane.name: lane.active for lane in lanes})
    metrics.LANE_QUEUED.read_by(lambda: {lane.name: lane.queued for lane in lanes})
    metrics.LANE_AGE.read_by(lambda: {lane.name: lane.oldest_s for lane in lanes})


def _journal(journal: Journal, database: Database, state_dir: Path) -> None:
    metrics.OUTBOX.is_number(lambda: journal.outgoing.backlog()[0])
    metrics.OUTBOX_AGE.is_number(lambda: _age_s(journal.outgoing.backlog()[1]))
    metrics.UNPLUGS.is_number(lambda: len(journal.unplugs.since()))
    metrics.UNPLUG_AGE.is_number(lambda: _age_s(min(journal.unplugs.since(), default=None)))
    metrics.LEFTOVERS.is_number(lambda: len(journal.temporaries.left()))
    metrics.JOURNAL_SIZE.read_by(database.sizes)
    disk = partial(os.statvfs, state_dir)
    metrics.STATE_DIR_SIZE.is_number(lambda: disk().f_blocks * disk().f_frsize)
    metrics.STATE_DIR_FREE.is_number(lambda: disk().f_bavail * disk().f_frsize)


def _by_state(jobs: Sequence[Job]) -> dict[str, int]:
    running = sum(job.attempt is not None for job in jobs)
    return {"running": running, "waiting": len(jobs) - running}


def _age_s(since: float | None) -> float:
    """Of something that was noted by the wall clock, which may have been set back since."""
    return 0.0 if since is None else max(0.0, time() - since)


def _stalled_s(jobs: Jobs) -> float:
    readings = [job.meter.read() for job in jobs.copies()]
    return max((each.stalled_s or 0.0 for each in readings if each is not None), default=0.0)
