# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls that overlap become one request."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from threading import Condition
from time import monotonic
from typing import Generic, TypeVar, cast

from storpool_agent import retry
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, StorPoolTimeout, StorPoolUnavailable

SLOW_S = 0.5  # a request that takes longer does not make those behind it wait for its end

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Request(Generic[Result]):
    """One request in flight, or answered."""

    deadline: Deadline
    """Its sender's: it may be shorter than that of those who only wait for the answer."""
    answered: bool = False
    result: Result | None = None
    error: BaseException | None = None
    cut_short: bool = False
    """It failed when its sender had no time for another try."""

    def outcome(self) -> Result:
        """Each gets an error of its own: one that several threads raise collects all their tracebacks."""
        if self.error is not None:
            raise copy(self.error) from self.error
        return cast(Result, self.result)


@dataclass(eq=False)
class _Caller(Generic[Item, Result]):
    item: Item
    request: _Request[Result] | None = None
    """That it is a part of; None while it waits in the queue."""


class Together(Generic[Item, Result]):
    """Whoever comes while no request is in flight sends at once; those who come meanwhile share the next one.

    The caller that sends takes all who wait, so nobody gets the answer to a request that began before its call.
    The result is the same for all; so is an error. Any thread may call it.
    """

    def __init__(self, what: str, send: Callable[[Sequence[Item], Deadline], Result]) -> None:
        self._what = what
        self._send = send
        self._changed = Condition()
        self._waiting: list[_Caller[Item, Result]] = []
        self._in_flight = 0
        self._sent_at = 0.0

    def submit(self, item: Item, deadline: Deadline) -> Result:
        while True:
            request, items = self._join(_Caller[Item, Result](item), deadline)
            if items:
                return self._send_all(request, items)
            if not request.cut_short or deadline.at <= request.deadline.at:
                return request.outcome()

    def _join(self, caller: _Caller[Item, Result], deadline: Deadline) -> tuple[_Request[Result], Sequence[Item]]:
        """Wait for this caller's turn (with what it is to send) or for its answered request (with nothing)."""
        with self._changed:
            self._waiting.append(caller)
            while caller.request is None or not caller.request.answered:
                if caller.request is None and self._turn_in_s() <= 0:
                    return self._take(deadline)
                if deadline.passed:
                    raise self._too_late(caller)
                self._changed.wait(min(deadline.remaining_s, self._patience_s(caller)))
            return caller.request, ()

    def _take(self, deadline: Deadline) -> tuple[_Request[Result], Sequence[Item]]:
        taken, self._waiting = self._waiting, []
        request = _Request[Result](deadline)
        for each in taken:
            each.request = request
        self._in_flight += 1
        self._sent_at = monotonic()
        return request, [each.item for each in taken]

    def _send_all(self, request: _Request[Result], items: Sequence[Item]) -> Result:
        try:
            request.result = self._send(items, request.deadline)
        except BaseException as error:
            request.error = error
            unanswered = isinstance(error, StorPoolTimeout | StorPoolUnavailable)
            request.cut_short = unanswered and request.deadline.remaining_s < retry.LONGEST_PAUSE_S
            raise
        finally:
            with self._changed:
                request.answered = True
                self._in_flight -= 1
                self._changed.notify_all()
        return request.outcome()

    def _turn_in_s(self) -> float:
        return self._sent_at + SLOW_S - monotonic() if self._in_flight else 0.0

    def _patience_s(self, caller: _Caller[Item, Result]) -> float:
        return max(self._turn_in_s(), 0.001) if caller.request is None else SLOW_S

    def _too_late(self, caller: _Caller[Item, Result]) -> AgentError:
        if caller.request is not None:
            return StorPoolTimeout(f"{self._what}: StorPool did not answer in time; it may have been done or not")
        self._waiting.remove(caller)
        return StorPoolUnavailable(f"{self._what}: not sent, StorPool has not answered an earlier request in time")
