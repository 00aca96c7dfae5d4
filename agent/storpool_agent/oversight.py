# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What whoever looks after the agent sees of it and changes in it: the status line's facts, settings that are live."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from time import monotonic
from typing import Protocol

from storpool_agent import logs
from storpool_agent.backlog import Backlog
from storpool_agent.bus.consumer import DRAIN, Consumer
from storpool_agent.bus.link import Link
from storpool_agent.bus.publisher import Publisher
from storpool_agent.conditions import Conditions
from storpool_agent.domains.hypervisor import Hypervisor
from storpool_agent.drift_watch import DriftWatch
from storpool_agent.intake import Intake
from storpool_agent.jobs import Jobs
from storpool_agent.lanes import Lanes
from storpool_agent.publishers import Publishers
from storpool_agent.reloading import Apply, Reloading
from storpool_agent.settings import Settings, scratch_dir
from storpool_agent.space import Place
from storpool_agent.status_line import Facts
from storpool_agent.tally import tally
from storpool_agent.watchdog import Watchdog
from storpool_commands.control import LaneStatus, LinkStatus, ProcessStatus


@dataclass(frozen=True)
class Live:
    """The parts that take other settings while they run."""

    lanes: Lanes
    consumer: Consumer
    intake: Intake
    drift_watch: DriftWatch
    jobs: Jobs
    backlog: Backlog


def live_settings(settings: Settings, parts: Live) -> dict[str, Apply]:
    """What takes effect at a reload. A host that has left the queue of all hosts alone may not even look at it."""
    live: dict[str, Apply] = {
        "log.level": lambda new: logs.set_configured_level(new.log.level),
        "lanes.fast": lambda new: parts.lanes.fast.resize(new.lanes.fast),
        "lanes.bulk": lambda new: parts.lanes.bulk.resize(new.lanes.bulk),
        "lanes.migration": lambda new: parts.lanes.migration.resize(new.lanes.migration),
        "lanes.max_queued": lambda new: setattr(parts.backlog, "max_queued", new.lanes.max_queued),
        "lanes.max_queued_copies": lambda new: setattr(parts.jobs, "max_queued_copies", new.lanes.max_queued_copies),
        "amqp.allowed_publishers": lambda new: _allow(parts.intake, new),
        "watch.drift_s": lambda new: parts.drift_watch.pace(new.watch.drift_s),
    }
    if settings.lanes.any:
        live["lanes.any"] = lambda new: parts.consumer.share(new.lanes.any)
    return live


def _allow(intake: Intake, settings: Settings) -> None:
    intake.publishers = Publishers(settings.amqp.allowed_publishers)


def places(settings: Settings) -> list[Place]:
    """The directories that should have some room."""
    return [
        Place("state_dir", settings.state_dir, settings.watch.state_low_bytes),
        Place("secondary.scratch_dir", scratch_dir(settings), settings.watch.scratch_low_bytes),
    ]


class Reachable(Protocol):
    """Something that the agent calls."""

    @property
    def trouble(self) -> str | None:
        """What keeps it from being called, in a few words; None: nothing that is known."""
        ...


@dataclass(frozen=True)
class Reader:
    """Reads how this process is, for systemd's status line and for who asks. Any thread may ask."""

    host: str
    broker: str
    """Its address."""
    started_at: float
    """Seconds since the epoch."""
    stopping: Event
    jobs: Jobs
    consumer: Consumer
    publisher: Publisher
    lanes: Lanes
    conditions: Conditions
    watchdog: Watchdog
    reloading: Reloading
    storpool: Reachable
    hypervisor: Hypervisor

    def facts(self) -> Facts:
        unfinished = self.jobs.unfinished()
        counted = tally(unfinished, monotonic())
        return Facts(
            host=self.host,
            running=counted.fast.running,
            queued=counted.fast.queued + counted.bulk.queued,
            oldest_s=max(counted.fast.oldest_s, counted.bulk.oldest_s),
            copies=[job.meter.percent for job in unfinished if job.bulk and job.attempt is not None],
            connected=all(link.is_ready for link in self._links),
            draining=DRAIN in self.consumer.held,
            troubles=[*self._away, *self._troubles],
        )

    def process(self) -> ProcessStatus:
        return ProcessStatus(
            pid=os.getpid(),
            started_at=_utc(self.started_at),
            stopping=self.stopping.is_set(),
            draining=DRAIN in self.consumer.held,
            broker=self.broker,
            links=[_link(one) for one in self._links],
            lanes=[
                LaneStatus(name=one.name, workers=one.workers, running=one.active, queued=one.queued)
                for one in self.lanes
            ],
            unfinished=len(self.jobs.unfinished()),
            troubles=self._troubles,
        )

    @property
    def _links(self) -> tuple[Link, Link]:
        return self.consumer.link, self.publisher.link

    @property
    def _away(self) -> list[str]:
        """As far as it is known without asking them. Who asks for `process` is told what they answer just then."""
        storpool = self.storpool.trouble
        return [*([storpool] if storpool else []), *([] if self.hypervisor.connected else ["libvirt is away"])]

    @property
    def _troubles(self) -> list[str]:
        return [
            *self.conditions.troubles,
            *(f"{loop} is stuck" for loop in self.watchdog.stuck),
            *(["the settings could not be reloaded"] if self.reloading.failed else []),
        ]


def _link(one: Link) -> LinkStatus:
    return LinkStatus(name=one.name, connected=one.is_ready, since=_utc(one.since), reason=one.trouble)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
