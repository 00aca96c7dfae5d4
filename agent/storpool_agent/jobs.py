# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The requests that are accepted and not finished: queued for their objects, run in their lane, replied to."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import structlog

from storpool_agent import dispatch, objects, secrecy
from storpool_agent.attempt import Attempt
from storpool_agent.crash import crash_point
from storpool_agent.deadline import Deadline
from storpool_agent.errors import (
    AgentError,
    Cancelled,
    CrashLoop,
    DeadlinePassed,
    InvalidCommand,
    JournalUnavailable,
    SecretNotKept,
)
from storpool_agent.host import Host
from storpool_agent.journal.journal import Journal, Outgoing
from storpool_agent.lanes import Lane
from storpool_agent.locks import Locks, Turn
from storpool_agent.outbox import Outbox
from storpool_commands.control import Ping
from storpool_commands.disks import GetPhysicalDisk
from storpool_commands.envelope import Failure, Request, Success

log = structlog.get_logger()

MAX_ATTEMPTS = 3
"""How often a request is run whose run the agent did not survive."""
FINISH_RETRY_S = 1.0
READ_ONLY = (Ping, GetPhysicalDisk)
"""Commands that may be run again without anybody noticing: that they were started is not worth a commit."""


@dataclass(eq=False)
class Job:
    """A request on its way to its reply."""

    request: Request
    attempts: int
    """Of earlier lives of the agent."""
    recovered: bool = False
    """It was read from the journal, which keeps no secrets."""
    turns: list[Turn] = field(default_factory=list[Turn])
    attempt: Attempt | None = None
    over: bool = False
    """It was cancelled while it queued, and has its reply."""


class Jobs:
    """One worker at a time for each object, in order of arrival; what names different objects runs side by side.

    Any thread may call any method.
    """

    def __init__(self, host: Host, journal: Journal, outbox: Outbox, lane: Lane) -> None:
        self._host = host
        self._journal = journal
        self._outbox = outbox
        self._lane = lane
        self._locks = Locks()
        self._mutex = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._storing = 0
        self._stored = threading.Condition(self._mutex)
        self._abandoned = threading.Event()

    def submit(self, request: Request, attempts: int = 0, *, recovered: bool = False) -> None:
        """Have a stored request run when its objects are free."""
        job = Job(request, attempts, recovered)
        with self._mutex:
            self._jobs[str(request.id)] = job
        named = objects.named(request.body)
        if named.by_name:
            self._enter(job, named.by_name, partial(self._resolve, job, named))
        else:
            self._enter(job, objects.resolve(named, self._host), partial(self._run, job))

    def alongside(self, keys: frozenset[str], work: Callable[[], None]) -> None:
        """Have something of the agent's own done in turn with the commands for these objects. It raises nothing."""

        def run() -> None:
            try:
                work()
            finally:
                self._locks.leave(turn)

        turn = Turn(keys, lambda: self._lane.put(run))
        self._locks.enter(turn)

    def cancel(self, request_id: str) -> str | None:
        """Stop a request: `cancelled` before it was run, `stopping` while it is; None when it is not under way."""
        with self._mutex:
            job = self._jobs.get(request_id)
            if job is None or job.over:
                return None
            if job.attempt is not None:
                job.attempt.cancel()
                return "stopping"
            job.over = True
        reply = dispatch.failure(self._host.name, job.request, Cancelled("cancelled before it was started"))
        try:
            self._outbox.send(self._journal.finish(request_id, _body(reply)))
        except JournalUnavailable:
            job.over = False
            raise
        return "cancelled"

    def unfinished(self) -> int:
        """How many requests are accepted and have no reply yet."""
        with self._mutex:
            return sum(not job.over for job in self._jobs.values())

    def steps(self, request_id: str) -> list[str]:
        """The steps that a running request has taken."""
        with self._mutex:
            job = self._jobs.get(request_id)
        return [step.step for step in job.attempt.steps] if job and job.attempt else []

    def abandon(self) -> None:
        """The agent stops before its work is done: store no replies of what fails from now on; it is run again."""
        self._abandoned.set()

    def wait_stored(self, deadline: Deadline) -> bool:
        """Wait until what the workers have finished is stored and on its way; false when it is not at the deadline."""
        with self._stored:
            return self._stored.wait_for(lambda: not self._storing, deadline.remaining_s)

    def _enter(self, job: Job, keys: frozenset[str], work: Callable[[], None]) -> None:
        turn = Turn(keys, lambda: self._lane.put(work))
        job.turns.append(turn)
        self._locks.enter(turn)

    def _resolve(self, job: Job, named: objects.Named) -> None:
        """Names first, then what they stand for: nobody that holds an object ever waits for a name."""
        try:
            keys = objects.resolve(named, self._host)
        except AgentError as problem:
            self._run(job, problem)
        else:
            self._enter(job, keys, partial(self._run, job))

    def _run(self, job: Job, problem: AgentError | None = None) -> None:
        reply = self._attempt(job, problem)
        if reply is None or self._is_abandoned(job, reply):
            self._leave(job)
        else:
            self._finish(job, _body(reply))

    def _attempt(self, job: Job, problem: AgentError | None) -> Success | Failure | None:
        """The reply, or None for a job that was cancelled just before."""
        attempt = self._begin(job)
        if attempt is None:
            return None
        refusal = problem or _refusal(job) or self._start(job)
        if refusal is not None:
            reply = dispatch.failure(self._host.name, job.request, refusal)
            # How far an earlier life of the agent came with it is not known.
            again = isinstance(refusal, SecretNotKept) and job.attempts
            return reply.model_copy(update={"side_effects": "partial"}) if again else reply
        crash_point(f"{job.request.body.command}/started")
        return dispatch.execute(job.request, self._host, attempt)

    def _begin(self, job: Job) -> Attempt | None:
        """From here on a cancel stops the attempt; before, it ends the job."""
        with self._mutex:
            if not job.over:
                job.attempt = Attempt(job.request, self._journal, job.attempts + 1)
            return job.attempt

    def _start(self, job: Job) -> AgentError | None:
        """Note that it is run; why not, when it cannot be noted: a crash would then be counted by nobody."""
        if isinstance(job.request.body, READ_ONLY):
            return None
        try:
            self._journal.start(str(job.request.id))
        except JournalUnavailable as error:
            return error
        return None

    def _is_abandoned(self, job: Job, reply: Success | Failure) -> bool:
        if isinstance(reply, Success) or not self._abandoned.is_set():
            return False
        log.info("request left for the next start", request=str(job.request.id), code=reply.code)
        return True

    def _finish(self, job: Job, body: bytes) -> None:
        """The worker takes the next job while this one's reply is stored; its objects stay taken until it is."""
        with self._mutex:
            self._storing += 1
        request_id = str(job.request.id)
        self._journal.finish_soon(request_id, body, partial(self._finished, job), partial(self._not_stored, job, body))

    def _finished(self, job: Job, outgoing: Sequence[Outgoing]) -> None:
        crash_point(f"{job.request.body.command}/finished")
        self._outbox.send(outgoing)
        self._leave(job)
        self._tell_stored()

    def _not_stored(self, job: Job, body: bytes, error: Exception) -> None:
        log.error("reply not stored", request=str(job.request.id), reason=str(error))
        self._lane.put(partial(self._finish_again, job, body))
        self._tell_stored()

    def _finish_again(self, job: Job, body: bytes) -> None:
        if self._abandoned.wait(FINISH_RETRY_S):
            self._leave(job)
        else:
            self._finish(job, body)

    def _tell_stored(self) -> None:
        with self._stored:
            self._storing -= 1
            self._stored.notify_all()

    def _leave(self, job: Job) -> None:
        with self._mutex:
            self._jobs.pop(str(job.request.id), None)
        for turn in reversed(job.turns):
            self._locks.leave(turn)


def _body(reply: Success | Failure) -> bytes:
    return reply.model_dump_json(by_alias=True).encode()


def _refusal(job: Job) -> AgentError | None:
    """Why a request is not run at all. One that was started once is not stopped by its deadline any more."""
    deadline = job.request.deadline
    if job.request.dry_run:
        return InvalidCommand("dryRun: this agent cannot plan commands yet; nothing was done")
    if job.recovered and secrecy.has_secret(job.request.body):
        return SecretNotKept(
            "the agent was restarted before it had finished this request, and does not store the secret in it; "
            "send it again with a new id: what is done already is not done twice",
            attempts=job.attempts,
        )
    if job.attempts >= MAX_ATTEMPTS:
        return CrashLoop(
            f"the agent died {job.attempts} times while it ran this request; look at its log, then at the volume",
            attempts=job.attempts,
        )
    if not job.attempts and deadline is not None and deadline <= datetime.now(UTC):
        return DeadlinePassed(f"its deadline {deadline.isoformat()} has passed; it was not started")
    return None
