# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent counts and measures, for Prometheus. The only module that knows its client library.

Two kinds. What happens is counted when it happens, by the functions at the end: they raise nothing, take microseconds,
and any thread may call them. What is the case (a depth, an age, a state) is a `Reading`: declared here, read when
somebody scrapes, by the function that the app hands to `read_by` (readings.py); between scrapes it costs nothing.

A new metric is declared here, gets its line in docs/operating.md, and has labels of few values that this code knows:
never a volume, a machine or a request. Names are as https://prometheus.io/docs/practices/naming/ asks for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast, get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, exposition
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from storpool_agent.errors import AgentError
from storpool_commands.control import Drift
from storpool_commands.envelope import Failure, Success

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

log = structlog.get_logger()

PREFIX = "storpool_agent_"
COMMAND_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 120, 1800, 7200)
"""From an attach, which takes milliseconds, to a copy, which takes hours. Each is a series of every command: few."""
STEP_S = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600, 7200)
CALL_S = (0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1, 5, 30)
COMMIT_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
"""One fdatasync: from a disk with a battery to one that is dying."""

M = TypeVar("M", Counter, Gauge, Histogram)
Values = Mapping[str, float]
"""A number for each value of the label."""

disable_created_metrics()  # type: ignore[no-untyped-call] # when a series began is a second one for each, and nobody asks
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)


class Reading(Collector):
    """A gauge that is read when somebody looks. Without a reader, or while it cannot be read, it has no value."""

    def __init__(self, name: str, documentation: str, label: str | None = None) -> None:
        self.name = PREFIX + name
        self._documentation = documentation
        self._labels = [] if label is None else [label]
        self._read: Callable[[], Values] = dict
        self._failed = False
        REGISTRY.register(self)

    def read_by(self, read: Callable[[], Values]) -> None:
        """Have it read like this."""
        self._read = read

    def is_number(self, read: Callable[[], float]) -> None:
        """As `read_by`, for one without a label."""
        self.read_by(lambda: {"": read()})

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Its name, for the registry."""
        yield GaugeMetricFamily(self.name, self._documentation, labels=self._labels)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        (family,) = self.describe()
        for label, value in self._values().items():
            family.add_metric([label] if self._labels else [], value)
        yield family

    def _values(self) -> Values:
        """One that cannot be read must not take all others with it."""
        try:
            values = self._read()
        except AgentError as error:
            self._note_failure(str(error))
        except Exception:
            log.exception("crashed", metric=self.name)
        else:
            self._failed = False
            return values
        return {}

    def _note_failure(self, reason: str) -> None:
        """Once, not with every scrape."""
        if not self._failed:
            log.warning("metric not read", metric=self.name, reason=reason)
        self._failed = True


# what is the case

READY = Reading("ready", "1 while commands are taken and served; what /readyz says.")
CHECK_PASSING = Reading("check_passing", "1 for a check that passes, of those that /healthz and /readyz make.", "check")
DRAINING = Reading("draining", "1 while drain keeps commands in their queues.")
BROKER_CONNECTED = Reading("broker_connected", "1 while the link to the broker is set up.", "link")
LIBVIRT_CONNECTED = Reading("libvirt_connected", "1 while libvirt is connected.")
REQUESTS = Reading("unfinished_requests", "Requests that are accepted and have no reply.", "state")
LANE_WORKERS = Reading("lane_workers", "Threads of a lane.", "lane")
LANE_ACTIVE = Reading("lane_active_workers", "Threads of a lane that are at work.", "lane")
LANE_QUEUED = Reading("lane_queued", "Work that waits for a thread of the lane.", "lane")
LANE_AGE = Reading("lane_oldest_queued_age_seconds", "How long the first in a lane's queue has waited, or 0.", "lane")
OUTBOX = Reading("outbox_messages", "Replies and events that the broker has not confirmed.")
OUTBOX_AGE = Reading("outbox_oldest_age_seconds", "Age of the oldest message in the outbox, or 0.")
UNPLUGS = Reading("pending_unplugs", "Guests that were asked to let go of a disk and have not yet.")
UNPLUG_AGE = Reading("pending_unplug_oldest_age_seconds", "Age of the oldest pending unplug, or 0.")
LEFTOVERS = Reading("leftovers", "What ended copy jobs could not take away yet.")
COPIES = Reading("copies", "Copy jobs that run, or wait for their turn.", "state")
COPY_STALLED = Reading("copy_stalled_seconds", "How long the running copy that stands still longest has not moved.")
JOURNAL_SIZE = Reading("journal_size_bytes", "Size of the journal's files.", "file")
STATE_DIR_SIZE = Reading("state_dir_size_bytes", "Size of the file system that has the journal.")
STATE_DIR_FREE = Reading("state_dir_available_bytes", "What is free there.")

DRIFT = Reading("drift_findings", "On what StorPool, the kernel and libvirt do not agree, in two looks.", "kind")

# what happens

_BUILD = Gauge(f"{PREFIX}build_info", "1, with what this agent is.", ["host", "version"], registry=REGISTRY)
_COMMANDS = Counter(
    f"{PREFIX}commands",
    "Commands that have their reply; code is empty when they succeeded.",
    ["command", "outcome", "code"],
    registry=REGISTRY,
)
_COMMAND_S = Histogram(
    f"{PREFIX}command_duration_seconds",
    "From the start of a command to its reply.",
    ["command"],
    buckets=COMMAND_S,
    registry=REGISTRY,
)
_WAIT_S = Histogram(
    f"{PREFIX}command_wait_seconds",
    "From the arrival of a command to its start: behind others for its object, and for a thread.",
    ["lane"],
    buckets=COMMAND_S,
    registry=REGISTRY,
)
_STEP_S = Histogram(
    f"{PREFIX}step_duration_seconds", "One step of a command.", ["step"], buckets=STEP_S, registry=REGISTRY
)
_CONTROL = Counter(
    f"{PREFIX}control_requests",
    "Requests of the control queue that were answered.",
    ["command", "outcome", "code"],
    registry=REGISTRY,
)
_REFUSED = Counter(
    f"{PREFIX}refused_messages", "Messages that were no request for this host.", ["code"], registry=REGISTRY
)
_COPIED = Counter(
    f"{PREFIX}copied_bytes", "Bytes that copy jobs have done, by phase.", ["command", "phase"], registry=REGISTRY
)
_COMMIT_S = Histogram(
    f"{PREFIX}journal_commit_duration_seconds", "One commit of the journal.", buckets=COMMIT_S, registry=REGISTRY
)
_STORPOOL = Counter(
    f"{PREFIX}storpool_requests",
    "Calls of StorPool's API: `ok`, `refused` (StorPool said no), or the error code.",
    ["call", "outcome"],
    registry=REGISTRY,
)
_STORPOOL_S = Histogram(
    f"{PREFIX}storpool_request_duration_seconds",
    "One call of StorPool's API.",
    ["call"],
    buckets=CALL_S,
    registry=REGISTRY,
)
_BROKER = Counter(
    f"{PREFIX}broker_connections",
    "How often a link to the broker was set up: all but the first are reconnects.",
    ["link"],
    registry=REGISTRY,
)
_LIBVIRT = Counter(f"{PREFIX}libvirt_connections", "How often libvirt was connected.", registry=REGISTRY)
_JUMPS = Counter(f"{PREFIX}clock_jumps", "How often the host's clock was set by more than a minute.", registry=REGISTRY)
DRIFT_KINDS: Sequence[str] = get_args(Drift.model_fields["kind"].annotation)


def wsgi_app() -> "WSGIApplication":
    """All of it, in the format that is asked for."""
    return cast("WSGIApplication", exposition.make_wsgi_app(REGISTRY))  # pyright: ignore[reportUnknownMemberType]


@cache
def _of(metric: M, *labels: str) -> M:
    """The series; looking it up costs more than counting. There are few, or they could not be labels."""
    return metric.labels(*labels)


def built(host: str, version: str) -> None:
    """Who this is."""
    _of(_BUILD, host, version).set(1)


def command_ended(command: str, reply: Success | Failure, *, dry_run: bool) -> None:
    """A command has its reply. One that was never started has taken no time."""
    code = reply.code if isinstance(reply, Failure) else ""
    _of(_COMMANDS, command, "dry-run" if dry_run else reply.status, code).inc()
    if dry_run or not reply.took_ms:
        return
    _of(_COMMAND_S, command).observe(reply.took_ms / 1000)
    for step in reply.steps:
        _of(_STEP_S, _step(step.step)).observe(step.took_ms / 1000)


def _step(name: str) -> str:
    """hostInfo asks each pool by its name."""
    return "ask" if name.startswith("ask ") else name


def command_waited(lane: str, seconds: float) -> None:
    """A command's turn has come."""
    _of(_WAIT_S, lane).observe(seconds)


def control_answered(command: str, reply: Success | Failure) -> None:
    """A request of the control queue has its answer."""
    _of(_CONTROL, command, reply.status, reply.code if isinstance(reply, Failure) else "").inc()


def message_refused(code: str) -> None:
    """A message was no request that this host takes."""
    _of(_REFUSED, code).inc()


def copied(command: str, phase: str, moved_bytes: int) -> None:
    """A copy has moved on."""
    _of(_COPIED, command, phase).inc(moved_bytes)


def committed(seconds: float) -> None:
    """The journal is on disk."""
    _COMMIT_S.observe(seconds)


def storpool_answered(call: str, outcome: str, seconds: float) -> None:
    """A call of the API has come to its end, one way or another; a call that is tried again is several."""
    _of(_STORPOOL, call, outcome).inc()
    _of(_STORPOOL_S, call).observe(seconds)


def broker_connected(link: str) -> None:
    """A link is set up, once more."""
    _of(_BROKER, link).inc()


def libvirt_connected() -> None:
    """Libvirt is connected, once more."""
    _LIBVIRT.inc()


def clock_jumped() -> None:
    """The host's clock was set."""
    _JUMPS.inc()
