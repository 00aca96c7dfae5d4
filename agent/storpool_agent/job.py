# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One request on its way to its reply, and why it may not be run at all."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from storpool_agent import metrics, secrecy, tracing
from storpool_agent.attempt import Attempt
from storpool_agent.errors import AgentError, Cancelled, CrashLoop, DeadlinePassed, SecretNotKept
from storpool_agent.expiry import Expiry
from storpool_agent.lanes import LaneName
from storpool_agent.locks import Turn
from storpool_agent.progress import Meter
from storpool_commands.catalogue import BulkCommand
from storpool_commands.control import Ping
from storpool_commands.disks import GetPhysicalDisk
from storpool_commands.envelope import AnyRequest, Request
from storpool_commands.labels import OPERATION
from storpool_commands.migration import MigrateVm

MAX_ATTEMPTS = 3
"""How often a request is run whose run the agent did not survive."""
READ_ONLY = (Ping, GetPhysicalDisk)
"""Commands that may be run again without anybody noticing: that they were started is not worth a commit."""


Settle = Callable[[], None]


@dataclass(eq=False)
class Job:
    """A request on its way to its reply."""

    request: Request
    attempts: int
    """Of earlier lives of the agent, or of other agents."""
    stops: int = 0
    """How many of these ended because the agent was stopped."""
    recovered: bool = False
    """It was read from the journal, which keeps no secrets."""
    kept: bool = True
    """The journal has it for the next start. False: the broker has it, for whichever agent is there."""
    deliveries: list[Settle] = field(default_factory=list[Settle])
    """What of the queue of all hosts is acked when the reply is stored."""
    replied: bool = False
    turns: list[Turn] = field(default_factory=list[Turn])
    attempt: Attempt | None = None
    over: bool = False
    """It was cancelled while it queued, and has its reply; or it was given back to the broker."""
    cancelled: bool = False
    """It was cancelled while it queued, and what an earlier run has left is to be removed before it has its reply."""
    meter: Meter = field(default_factory=Meter)
    publisher: str | None = None
    """Who asked for it, as the broker has verified."""
    queued_at: float = field(default_factory=monotonic)
    """When this life of the agent got it."""
    expiry: Expiry | None = field(init=False)
    span: tracing.Span | None = field(init=False)
    """This run of it, and the wait for that, in the trace of its sender."""

    def __post_init__(self) -> None:
        self.expiry = Expiry(self.request.deadline) if self.request.deadline else None
        self.span = tracing.begin(self.request.traceparent)

    @property
    def lane(self) -> LaneName:
        if isinstance(self.request.body, MigrateVm):
            return "migration"
        return "bulk" if self.bulk else "fast"

    def moved(self, phase: str, done: int | None, total: int | None) -> None:
        """It is there now."""
        if moved := self.meter.note(phase, done, total):
            metrics.copied(self.request.body.command, phase, moved)

    @property
    def bulk(self) -> bool:
        """It takes minutes: it shows progress, and can be cancelled and begun again."""
        return isinstance(self.request.body, BulkCommand)

    @property
    def read_only(self) -> bool:
        return isinstance(self.request.body, READ_ONLY)

    @property
    def has_begun(self) -> bool:
        """What it makes for as long as it runs may be there."""
        return self.bulk and self.attempts > 0


@dataclass(frozen=True)
class JobView:
    """A request that is accepted and has no reply yet, as it is at this moment."""

    id: str
    keys: frozenset[str]
    """Of the objects that it has or waits for."""
    named: frozenset[str]
    """Volumes and snapshots as it names them: `~<global id>` or `<name>`."""
    running: bool
    step: str | None
    """What a running one is doing."""
    waits_for: tuple[str, ...]
    """The requests that have its objects, or come before it."""


def why_not(job: Job) -> AgentError | None:
    """Why a request is not run at all.

    One that was started once is not stopped by its deadline any more: it may be half done. One of the queue of all
    hosts may have been when it was with an agent before.
    """
    if job.recovered and secrecy.has_secret(job.request.body):
        return SecretNotKept(
            "the agent was restarted before it had finished this request, and does not store the secret in it; "
            "send it again with a new id: what is done already is not done twice",
            attempts=job.attempts,
        )
    if job.cancelled and not isinstance(job.request.body, MigrateVm):
        return Cancelled("cancelled before it was started again")
    if job.attempts - job.stops >= MAX_ATTEMPTS:
        return _crash_loop(job)
    if not job.attempts and job.expiry is not None and job.expiry.passed:
        return DeadlinePassed(f"its deadline {job.expiry.at.isoformat()} has passed; it was not started")
    return None


def _crash_loop(job: Job) -> CrashLoop:
    died = job.attempts - job.stops
    what = f"the agent died {died} times while it ran this request; look at its log, then at the volume"
    if isinstance(job.request, AnyRequest):
        what = (
            f"{job.attempts} agents had this request and none has answered it: they died, stopped or lost the broker;"
            f" look for the tag {OPERATION}={job.request.id} at StorPool, then at the logs"
        )
    return CrashLoop(what, attempts=job.attempts)
