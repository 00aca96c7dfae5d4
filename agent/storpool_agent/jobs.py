# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The requests that are accepted and not finished: queued for their objects, run in their lane, replied to."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic

import structlog

from storpool_agent import dispatch, metrics, objects, tracing
from storpool_agent.attempt import Attempt
from storpool_agent.crash import crash_point
from storpool_agent.deadline import Deadline
from storpool_agent.dry_run.attempt import DryAttempt
from storpool_agent.dry_run.host import dry
from storpool_agent.errors import (
    AgentError,
    Cancelled,
    HostOverloaded,
    JournalUnavailable,
)
from storpool_agent.host import Host
from storpool_agent.interrupt import AgentStopping, Interrupt
from storpool_agent.job import Job, JobView, Settle, why_not
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.outgoing import Outgoing
from storpool_agent.lanes import Lane, Lanes
from storpool_agent.locks import HeldTurns, Locks, Turn
from storpool_agent.outbox import Outbox
from storpool_agent.reply_store import ReplyStore
from storpool_commands.control import JobProgress
from storpool_commands.envelope import Failure, Request, Success

log = structlog.get_logger()


class Jobs:
    """One worker at a time for each object, in order of arrival; what names different objects runs side by side.

    A request of the queue of all hosts stays with the broker until its reply is stored in the journal, and is acked
    then, before the broker has confirmed the reply. Were it acked after the confirm, an agent that died in between
    would send the reply after its start, and another would run the request again and send one more, which could
    say something else. This way that takes a death between the commit and the ack. What a host that never comes
    back takes with it is an answer, not an effect: who sends the id again has it looked up by another host.

    Any thread may call any method.
    """

    def __init__(
        self, host: Host, journal: Journal, outbox: Outbox, lanes: Lanes, max_queued_copies: int = 1 << 30
    ) -> None:
        self._host = host
        self._journal = journal
        self._outbox = outbox
        self._lanes = lanes
        self.max_queued_copies = max_queued_copies
        self._locks = Locks()
        self._mutex = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._replies = ReplyStore(journal, lanes.fast)
        self._ending = threading.Event()
        self._copy_queued: Callable[[], None] = lambda: None
        self._copy_ended: Callable[[], None] = lambda: None

    def on_copy(self, callback: Callable[[], None]) -> None:
        """Have somebody told that there is a copy to watch. Call it before the first request."""
        self._copy_queued = callback

    def on_copy_end(self, callback: Callable[[], None]) -> None:
        """Have somebody told that a copy has its reply. Call it before the first request."""
        self._copy_ended = callback

    def turns(self, interrupt: Interrupt) -> HeldTurns:
        """For work of the agent's own on objects that commands name."""
        return HeldTurns(self._locks, [], interrupt)

    def submit(
        self,
        request: Request,
        attempts: int = 0,
        stops: int = 0,
        *,
        recovered: bool = False,
        publisher: str | None = None,
    ) -> None:
        """Have a stored request run when its objects are free."""
        self._queue(Job(request, attempts, stops, recovered, publisher=publisher))

    def serve(self, request: Request, attempts: int, settle: Settle, publisher: str | None = None) -> None:
        """Have a stored request of the queue of all hosts run, or join it if it is under way.

        `settle` acks its delivery. It is called once the reply is stored, so never when the agent stops before:
        the broker then has the request for another agent. Raises JournalUnavailable.
        """
        with self._mutex:
            job = self._jobs.get(str(request.id))
            if job is not None and not job.replied:
                job.deliveries.append(settle)
                return
        if job is not None or self._is_finished(request):
            settle()
        else:
            self._queue(Job(request, attempts, kept=False, deliveries=[settle], publisher=publisher))

    def keep(self, request: Request, publisher: str | None = None) -> None:
        """A stored request came once more, to this host alone: it is run here whatever becomes of the connection.

        Raises JournalUnavailable.
        """
        with self._mutex:
            job = self._jobs.get(str(request.id))
            if job is not None:
                job.kept = True
                return
        if not self._is_finished(request):
            self._queue(Job(request, 0, publisher=publisher))

    def give_back(self) -> None:
        """The connection is lost: what it brought of the queue of all hosts the broker now gives to another agent.

        What has not begun is not run here; what runs is finished, and finds its object made if another was faster.
        To be called by the thread that calls `serve`.
        """
        with self._mutex:
            shared = [job for job in self._jobs.values() if not job.kept]
            back = [job for job in shared if job.attempt is None and not job.over]
            for job in shared:
                job.deliveries.clear()
            for job in back:
                job.over = True
                del self._jobs[str(job.request.id)]
        if not back:
            return
        log.info("given back", requests=len(back))
        try:
            self._journal.drop([str(job.request.id) for job in back])
        except JournalUnavailable as error:
            log.warning("journal not pruned", reason=str(error))

    def _is_finished(self, request: Request) -> bool:
        record = self._journal.record(str(request.id))
        return record is not None and record.state == "finished"

    def _queue(self, job: Job) -> None:
        request = job.request
        refusal = self._too_many_copies(job)
        with self._mutex:
            self._jobs[str(request.id)] = job
        if refusal is not None:
            self._lanes.fast.put(partial(self._run, job, refusal))
            return
        if job.bulk:
            job.meter.note("queued", None, None)
            self._copy_queued()
        named = objects.with_ticket(objects.named(request.body), request.body, self._journal.tickets)
        if named.by_name:
            # The look-up of names takes moments, whatever the command does then.
            self._enter(job, named.by_name, partial(self._resolve, job, named), self._lanes.fast)
        else:
            self._enter(job, objects.resolve(named, self._host), partial(self._run, job))

    def _too_many_copies(self, job: Job) -> HostOverloaded | None:
        """What an earlier run of the agent has accepted was counted then."""
        if not job.bulk or job.recovered:
            return None
        queued = sum(one.attempt is None for one in self.copies() if one.lane == job.lane)
        if queued < self.max_queued_copies:
            return None
        return HostOverloaded(
            f"{queued} {'migrations' if job.lane == 'migration' else 'copies'} wait on this host already, and it takes"
            " no more than that (lanes.max_queued_copies)",
            queued=queued,
        )

    def alongside(self, keys: frozenset[str], work: Callable[[], None]) -> None:
        """Have something of the agent's own done in turn with the commands for these objects. It raises nothing."""

        def run() -> None:
            try:
                work()
            finally:
                self._locks.leave(turn)

        turn = Turn(keys, lambda: self._lanes.fast.put(run))
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
            if job.has_begun:
                job.cancelled = True
                return "stopping"
            job.over = True
        cancelled = Cancelled("cancelled before it was started")
        reply = dispatch.not_run(self._host.name, job.request, cancelled, job.publisher)
        try:
            self._outbox.send(self._journal.finish(request_id, _body(reply)))
        except JournalUnavailable:
            job.over = False
            raise
        _count(job, reply)
        self._settle(job)
        return "cancelled"

    def unfinished(self) -> Sequence[Job]:
        """The requests that are accepted and have no reply yet, in order of arrival."""
        with self._mutex:
            return [job for job in self._jobs.values() if not (job.over or job.replied)]

    def end_copies(self) -> None:
        """The agent stops: end the copies that run, to be begun again by the next start."""
        self._ending.set()
        for job in self.copies():
            if job.attempt is not None:
                job.attempt.end(AgentStopping())

    def copies(self) -> Sequence[Job]:
        """The copies that run, or wait for their turn."""
        return [job for job in self.unfinished() if job.bulk]

    def progress(self, request_id: str) -> JobProgress | None:
        """How far a running copy is."""
        with self._mutex:
            job = self._jobs.get(request_id)
        return job.meter.read() if job else None

    def steps(self, request_id: str) -> list[str]:
        """The steps that a running request has taken."""
        with self._mutex:
            job = self._jobs.get(request_id)
        return [step.step for step in job.attempt.steps] if job and job.attempt else []

    def under_way(self) -> list[JobView]:
        """What is accepted and has no reply yet, in order of arrival."""
        with self._mutex:
            jobs = [job for job in self._jobs.values() if not (job.over or job.replied)]
        owners = {turn: str(job.request.id) for job in jobs for turn in list(job.turns)}
        return [self._view(job, owners) for job in jobs]

    def _view(self, job: Job, owners: Mapping[Turn, str]) -> JobView:
        turns, attempt = list(job.turns), job.attempt
        named = objects.named(job.request.body)
        ahead = [] if attempt else [one for turn in turns for one in self._locks.ahead(turn)]
        waits_for = dict.fromkeys(owners[one] for one in ahead if one in owners)
        return JobView(
            id=str(job.request.id),
            keys=frozenset(key for turn in turns for key in turn.keys),
            named=frozenset(map(str, (*named.volumes, *named.snapshots))),
            running=attempt is not None,
            step=attempt.steps[-1].step if attempt and attempt.steps else None,
            waits_for=tuple(waits_for),
        )

    def abandon(self) -> None:
        """The agent stops before its work is done: store no replies of what fails from now on; it is run again."""
        self._replies.abandon()

    def wait_stored(self, deadline: Deadline) -> bool:
        """Wait until what the workers have finished is stored and on its way; false when it is not at the deadline."""
        return self._replies.wait(deadline)

    def _enter(self, job: Job, keys: frozenset[str], work: Callable[[], None], lane: Lane | None = None) -> None:
        """`lane`: when not the job's own."""
        wanted = lane or self._lanes.named(job.lane)
        turn = Turn(keys, lambda: wanted.put(work))
        job.turns.append(turn)
        self._locks.enter(turn)

    def _resolve(self, job: Job, named: objects.Named) -> None:
        """Names first, then what they stand for: nobody that holds an object ever waits for a name."""
        try:
            with tracing.within(job.span):
                keys = objects.resolve(named, self._host)
        except AgentError as problem:
            self._enter(job, frozenset(), partial(self._run, job, problem))
        else:
            self._enter(job, keys, partial(self._run, job))

    def _run(self, job: Job, problem: AgentError | None = None) -> None:
        reply = self._attempt(job, problem)
        if reply is None or self._is_abandoned(job, reply):
            self._leave(job)
        else:
            _count(job, reply)
            stored, given_up = partial(self._finished, job), partial(self._leave, job)
            self._replies.store(str(job.request.id), _body(reply), stored, given_up)

    def _attempt(self, job: Job, problem: AgentError | None) -> Success | Failure | None:
        """The reply, or None for a job that was cancelled just before."""
        attempt = self._begin(job)
        if attempt is None:
            return None
        try:
            refusal = problem or why_not(job) or self._start(job)
            return self._refused(job, attempt, refusal) if refusal else self._execute(job, attempt)
        except AgentStopping:
            self._note_stop(job)
            return None
        finally:
            attempt.close()

    def _refused(self, job: Job, attempt: Attempt, refusal: AgentError) -> Failure:
        if job.has_begun:
            dispatch.clean_up(job.request, self._host, attempt)
        reply = dispatch.not_run(self._host.name, job.request, refusal, job.publisher)
        # How far an earlier life of the agent, or another agent, came with it is not known.
        return reply.model_copy(update={"side_effects": "partial"}) if job.attempts else reply

    def _execute(self, job: Job, attempt: Attempt) -> Success | Failure:
        crash_point(f"{job.request.body.command}/started")
        host = dry(self._host) if job.request.dry_run else self._host
        return dispatch.execute(job.request, host, attempt, job.publisher)

    def _note_stop(self, job: Job) -> None:
        log.info("copy stopped", request=str(job.request.id), reason="the agent stops; the next start begins it again")
        try:
            self._journal.stop(str(job.request.id))
        except JournalUnavailable as error:
            log.warning("stop not noted", request=str(job.request.id), reason=str(error))

    def _begin(self, job: Job) -> Attempt | None:
        """From here on a cancel stops the attempt; before, it ends the job."""
        with self._mutex:
            if not job.over:
                kind = DryAttempt if job.request.dry_run else Attempt
                turns = HeldTurns(self._locks, job.turns)
                job.attempt = kind(job.request, self._journal, job.attempts + 1, turns, job.moved, job.span)
                metrics.command_waited(job.lane, monotonic() - job.queued_at)
                if job.bulk:
                    job.meter.note("preparing", None, None)
                    _ = job.attempt.interrupt  # there before anybody can want to end it
                    if job.cancelled:  # what is half done is taken back by its handler
                        job.attempt.cancel()
                    if self._ending.is_set():
                        job.attempt.end(AgentStopping())
            return job.attempt

    def _start(self, job: Job) -> AgentError | None:
        """Note that it is run; why not, when it cannot be noted: a crash would then be counted by nobody."""
        if job.request.dry_run or job.read_only:
            return None
        try:
            self._journal.start(str(job.request.id))
        except JournalUnavailable as error:
            return error
        return None

    def _is_abandoned(self, job: Job, reply: Success | Failure) -> bool:
        if isinstance(reply, Success) or not self._replies.abandoned:
            return False
        log.info("request left for the next start", request=str(job.request.id), code=reply.code)
        return True

    def _finished(self, job: Job, outgoing: Sequence[Outgoing]) -> None:
        """The worker had the next job while this one's reply was stored; its objects were taken until now."""
        crash_point(f"{job.request.body.command}/finished")
        self._outbox.send(outgoing)
        self._settle(job)
        self._leave(job)
        if job.bulk:
            self._copy_ended()

    def _settle(self, job: Job) -> None:
        """The reply is on disk: what asked for it is no longer needed."""
        with self._mutex:
            job.replied = True
            deliveries, job.deliveries = job.deliveries, []
        for settle in deliveries:
            settle()

    def _leave(self, job: Job) -> None:
        with self._mutex:
            if self._jobs.get(str(job.request.id)) is job:
                del self._jobs[str(job.request.id)]
        for turn in reversed(job.turns):
            self._locks.leave(turn)


def _count(job: Job, reply: Success | Failure) -> None:
    metrics.command_ended(job.request.body.command, reply, dry_run=job.request.dry_run)


def _body(reply: Success | Failure) -> bytes:
    return reply.model_dump_json(by_alias=True).encode()
