# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Queries of the JSON API: sent, tried again where that is safe, and their answers read."""

from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Generic, Literal, TypeVar
from urllib.parse import quote

import structlog
from pydantic import SecretStr, ValidationError

from storpool_agent import metrics, retry, tracing
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, StorPoolBadAnswer, StorPoolUnauthorized
from storpool_agent.storpool import refusals
from storpool_agent.storpool.address import Address
from storpool_agent.storpool.answers import Envelope, ErrorAnswer
from storpool_agent.storpool.last_call import LastCall
from storpool_agent.storpool.refusals import Refusal, Refused
from storpool_agent.storpool.requests import RequestModel
from storpool_agent.storpool.transport import Sent, exchange
from storpool_commands.wire import Fact

CALL_S = 30.0  # the longest that StorPool's management takes for a call that waits for no client
EXCERPT = 512  # of an answer that is not StorPool's: enough to recognise a proxy's page

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Query(Generic[T]):
    """One call of the API."""

    method: Literal["GET", "POST"]
    name: str
    """With its prefix, such as `MultiCluster/VolumesReassignWait`."""
    answer: type[Envelope[T]]
    argument: str | None = None
    body: RequestModel | None = None
    repeatable: bool = True
    """Making it twice is as making it once: it may be sent again when its answer was lost."""
    longest_s: float = CALL_S

    @property
    def plain_name(self) -> str:
        """Without its prefix."""
        return self.name.rpartition("/")[2]

    @property
    def path(self) -> str:
        argument = "" if self.argument is None else "/" + quote(self.argument, safe="~")
        return f"/ctrl/1.0/{self.name}{argument}"


@dataclass(frozen=True)
class Api:
    """One API endpoint and the token it takes. Any thread may call it."""

    address: Address
    token: SecretStr
    stopping: Event = field(repr=False)
    last: LastCall = field(default_factory=LastCall, repr=False, compare=False)

    def call(self, query: Query[T], deadline: Deadline) -> T:
        """Raises Refusal for an error of the API that means something for this call only, else AgentErrors."""
        limit = deadline.within(query.longest_s)
        policy = retry.while_unanswered if query.repeatable else retry.while_unreachable
        answer: T = policy(self.stopping, limit)(self._call_once, query, limit)
        return answer

    def _call_once(self, query: Query[T], deadline: Deadline) -> T:
        began = monotonic()
        outcome = "internal"
        try:
            answer = self._exchange(query, deadline)
            outcome = "ok"
        except AgentError as error:
            outcome = error.code
            raise
        except Refusal:
            outcome = "refused"
            raise
        finally:
            self.last.note(outcome)
            metrics.storpool_answered(query.plain_name, outcome, monotonic() - began)
        return answer

    def _exchange(self, query: Query[T], deadline: Deadline) -> T:
        began = monotonic()
        span = tracing.call()
        headers = {
            "Authorization": f"Storpool v1:{self.token.get_secret_value()}",
            "User-Agent": "storpool-agent",
            "Content-Type": "application/json",
            **({"traceparent": span.traceparent} if span else {}),
        }
        body = b"" if query.body is None else query.body.as_json()
        status, answer = exchange(self.address, Sent(query.name, query.method, query.path, headers, body), deadline)
        took_ms = round((monotonic() - began) * 1e3, 1)
        log.debug("storpool answered", path=query.path, status=status, took_ms=took_ms, **_call_id(span))
        return self._read(query, status, answer)

    def _read(self, query: Query[T], status: int, body: bytes) -> T:
        try:
            envelope = query.answer.model_validate_json(body)
        except ValidationError as error:
            raise self._unreadable(query, status, body) from error
        if envelope.error is not None:
            raise self._refused(query, status, envelope.error)
        if status != 200 or envelope.data is None:
            raise self._unreadable(query, status, body)
        return envelope.data

    def _refused(self, query: Query[T], status: int, error: ErrorAnswer) -> Exception:
        descr = self._without_token(error.descr)
        refusal = Refusal(Refused(str(self.address), query.name, status, error.name, descr, error.transient))
        return refusals.of_any_call(refusal) or refusal

    def _unreadable(self, query: Query[T], status: int, body: bytes) -> AgentError:
        excerpt = self._without_token(body[:EXCERPT].decode(errors="replace"))
        facts: dict[str, Fact] = {"api": str(self.address), "query": query.name, "status": status, "body": excerpt}
        if status in (401, 403):
            return StorPoolUnauthorized(
                f"{self.address} does not accept this agent's token (HTTP status {status}): check SP_AUTH_TOKEN",
                **facts,
            )
        return StorPoolBadAnswer(
            f"the answer of {self.address} to {query.name} (HTTP status {status}) is not StorPool's: "
            "check the address, and a proxy before it",
            **facts,
        )

    def _without_token(self, text: str) -> str:
        """A proxy's page may show the request."""
        token = self.token.get_secret_value()
        return text.replace(token, "***") if token else text


def _call_id(span: tracing.Span | None) -> dict[str, str]:
    return {"call_span_id": span.span_id} if span else {}
