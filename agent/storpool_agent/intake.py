# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From deliveries to stored requests: everything that arrives is stored, answered or dead-lettered, then acked."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol
from uuid import uuid4

import structlog

from storpool_agent import metrics, tracing
from storpool_agent.bus.consumer import Delivery
from storpool_agent.bus.publisher import Message
from storpool_agent.control import CHANGING, Control
from storpool_agent.crash import crash_point
from storpool_agent.errors import AgentError, JournalUnavailable
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Arrival, Journal, Verdict
from storpool_agent.journal.outgoing import Outgoing
from storpool_agent.outbox import Outbox, Publishes
from storpool_agent.publishers import Publishers
from storpool_agent.secrecy import storable
from storpool_commands import topology
from storpool_commands.envelope import Accepted, ControlRequest, Failure, Request, Success
from storpool_commands.errors import ErrorCode, retry_class
from storpool_commands.parse import InvalidRequest, parse_any_request, parse_control_request, parse_request
from storpool_commands.wire import REPLY_TO

log = structlog.get_logger()


class Settles(Protocol):
    """The way to ack what was kept back."""

    def settle(self, delivery: Delivery) -> None: ...


class Intake:
    """Called by the consumer's thread with all that has arrived; one commit stores it."""

    def __init__(
        self,
        host: str,
        journal: Journal,
        jobs: Jobs,
        control: Control,
        outbox: Outbox,
        publisher: Publishes,
        publishers: Publishers,
    ) -> None:
        self._host = host
        self._journal = journal
        self._jobs = jobs
        self._control = control
        self._outbox = outbox
        self._publisher = publisher
        self.publishers = publishers
        """Another one may be set at any time: it counts from the next batch on."""
        self.settle: Callable[[Delivery], None] = _not_connected
        self.decline: Callable[[Delivery], None] = _not_connected
        self.taken: Callable[[], None] = _nobody
        """Told after each batch, so that what is too much is noticed at once."""

    def receive(self, batch: Sequence[Delivery]) -> Sequence[Delivery]:
        """Take a batch; what is returned may be acked.

        The rest is acked when its refusal has been published, or, from the queue of all hosts, when it is finished.
        """
        settled: list[Delivery] = []
        fresh: list[tuple[Delivery, Request]] = []
        for delivery in batch:
            match self._read(delivery):
                case ControlRequest() as asked:
                    self._answer(delivery, asked)
                    settled.append(delivery)
                case Request() as request:
                    fresh.append((delivery, request))
                case None:
                    pass  # it is refused
        settled += self._store(fresh)
        self.taken()
        return settled

    def _read(self, delivery: Delivery) -> Request | ControlRequest | None:
        """None for what this host does not take, or not from its publisher; that is refused then.

        What can be read is read before it is refused, so that the secrets in it are known.
        """
        try:
            request = _parse(delivery)
        except InvalidRequest as problem:
            stranger = self.publishers.refuse_stranger(delivery.publisher)
            not_heard = InvalidRequest(ErrorCode.NOT_AUTHORIZED, stranger, problem.request_id) if stranger else None
            self._refuse(delivery, not_heard or problem)
            return None
        if refusal := self.publishers.refuse(delivery.publisher, request.body):
            self._refuse(delivery, InvalidRequest(ErrorCode.NOT_AUTHORIZED, refusal, request.id), request)
            return None
        return request

    def _answer(self, delivery: Delivery, asked: ControlRequest) -> None:
        """The answer is published when it is there, by whichever thread has it; the request is not kept."""

        def say(reply: Success | Failure) -> None:
            self._say(delivery, reply.model_dump_json(by_alias=True).encode(), str(reply.id), delivery.correlation_id)

        if isinstance(asked.body, CHANGING):
            _note_accepted(delivery, asked)
        self._control.answer(asked, say, delivery.publisher)

    def _store(self, fresh: Sequence[tuple[Delivery, Request]]) -> list[Delivery]:
        try:
            verdicts = self._accept(fresh)
        except JournalUnavailable as error:
            for delivery, request in fresh:
                self._not_stored(delivery, request, error)
            return []
        settled: list[Delivery] = []
        unfinished: list[tuple[Delivery, Request, Verdict]] = []
        for (delivery, request), (verdict, again) in zip(fresh, verdicts, strict=True):
            crash_point(f"{request.body.command}/accepted")
            if verdict is Verdict.CONFLICT:
                self._refuse(delivery, _conflict(request), request)
                continue
            if again is not None:
                self._outbox.send([again])
            if verdict is Verdict.FINISHED or not delivery.shared:
                settled.append(delivery)
            if verdict is not Verdict.FINISHED:
                unfinished.append((delivery, request, verdict))
        for delivery, request, verdict in unfinished:
            self._hand_on(delivery, request, verdict)
        return settled

    def _accept(self, fresh: Sequence[tuple[Delivery, Request]]) -> list[tuple[Verdict, Outgoing | None]]:
        return self._journal.accept([_arrival(delivery, request) for delivery, request in fresh]) if fresh else []

    def _hand_on(self, delivery: Delivery, request: Request, verdict: Verdict) -> None:
        if verdict is Verdict.NEW:
            _note_accepted(delivery, request)
        if request.progress:
            self._acknowledge(delivery, request)
        if delivery.shared:
            self._jobs.serve(request, delivery.count, partial(self.settle, delivery), delivery.publisher)
        elif verdict is Verdict.NEW:
            self._jobs.submit(request, publisher=delivery.publisher)
        else:
            self._jobs.keep(request, delivery.publisher)

    def _not_stored(self, delivery: Delivery, request: Request, error: AgentError) -> None:
        """What any host can do, another may do better, and this one must not take it from all others to refuse it."""
        if delivery.shared and not delivery.count:
            log.warning("declined", request=str(request.id), code=error.code, reason=str(error))
            self.decline(delivery)
        else:
            self._refuse(delivery, _as_problem(error, request), request)

    def _acknowledge(self, delivery: Delivery, request: Request) -> None:
        traceparent = tracing.told(tracing.begin(request.traceparent))
        accepted = Accepted(id=request.id, host=self._host, traceparent=traceparent)
        body = accepted.model_dump_json(by_alias=True).encode()
        self._say(delivery, body, str(request.id))

    def _refuse(
        self, delivery: Delivery, problem: InvalidRequest, request: Request | ControlRequest | None = None
    ) -> None:
        """Answer and dead-letter; the delivery is acked when the broker has confirmed the last of these.

        What could not be read as a request is dead-lettered as it came: nobody knows what is secret in it.
        """
        metrics.message_refused(problem.code)
        request_id = problem.request_id
        log.warning(
            "refused",
            audit=True,
            code=problem.code,
            reason=str(problem),
            facts=problem.facts,
            publisher=delivery.publisher,
            request=request_id and str(request_id),
            command=request and request.body.command,
        )
        reply = Failure(
            id=request_id,
            host=self._host,
            traceparent=tracing.told(tracing.begin(request.traceparent)) if request else None,
            code=problem.code,
            message=str(problem),
            retry=retry_class(problem.code),
            side_effects="none",
            facts=problem.facts,
        )
        correlation_id = None if request_id else delivery.correlation_id
        self._say(delivery, reply.model_dump_json(by_alias=True).encode(), str(request_id or uuid4()), correlation_id)
        dead = Message(
            exchange=topology.DEAD,
            routing_key="",
            message_id=str(request_id or uuid4()),
            body=delivery.body if request is None else storable(request, delivery.body),
            headers={"code": problem.code, "reason": str(problem), "host": self._host},
            confirmed=partial(self.settle, delivery),
            refused=lambda _reason: self.settle(delivery),
        )
        self._publisher.publish(dead)

    def _say(self, delivery: Delivery, body: bytes, message_id: str, correlation_id: str | None = None) -> None:
        """A reply that is not kept: its sender can ask again. It is correlated by the request's id unless told."""
        if delivery.reply_to is None or not REPLY_TO.fullmatch(delivery.reply_to):
            return
        key = topology.reply_key(self._host, delivery.reply_to)
        self._publisher.publish(Message(topology.REPLIES, key, message_id, body, correlation_id))


def _parse(delivery: Delivery) -> Request | ControlRequest:
    """Raises InvalidRequest."""
    if delivery.control:
        return parse_control_request(delivery.body)
    return parse_any_request(delivery.body) if delivery.shared else parse_request(delivery.body)


def _note_accepted(delivery: Delivery, request: Request | ControlRequest) -> None:
    """Who asks for what, with all its arguments: `shrinkOk` is what an audit looks for. Secrets are hidden."""
    with tracing.within(tracing.begin(request.traceparent)):
        log.info(
            "accepted",
            audit=True,
            request=str(request.id),
            command=request.body.command,
            publisher=delivery.publisher,
            args=request.body.model_dump(exclude={"command"}, exclude_unset=True),
            dry_run=request.dry_run,
        )


def _arrival(delivery: Delivery, request: Request) -> Arrival:
    reply_to = delivery.reply_to if delivery.reply_to and REPLY_TO.fullmatch(delivery.reply_to) else None
    return Arrival(
        str(request.id),
        request.body.command,
        delivery.body,
        delivery.publisher,
        reply_to,
        delivery.shared,
        kept=storable(request, delivery.body),
    )


def _as_problem(error: AgentError, request: Request) -> InvalidRequest:
    return InvalidRequest(error.code, str(error), request.id, **error.facts)


def _conflict(request: Request) -> InvalidRequest:
    return InvalidRequest(
        ErrorCode.ID_CONFLICT,
        f"request {request.id} is known with another body; a new command needs a new id",
        request.id,
    )


def _nobody() -> None:
    """Nobody wants to know."""


def _not_connected(_delivery: Delivery) -> None:
    raise RuntimeError("the intake is not connected to a consumer")
