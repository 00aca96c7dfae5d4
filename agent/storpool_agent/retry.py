# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every policy of trying again, by name. Each retries only the classes it names, until its time is over or the
agent stops; what it gives up on is raised as it is.
"""

from collections.abc import Callable
from threading import Event
from time import monotonic

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, StorPoolBadAnswer, StorPoolTimeout, StorPoolUnavailable, VolumeBusy

UNREACHABLE_S = 10.0  # a management service that moves to another node refuses connections for a few seconds
BUSY_S = 5.0  # udev's worker holds a fresh device for some ms, a process that is ending for a second or two
LONGEST_PAUSE_S = 4.0  # between tries: a StorPool that is back is noticed within that
LONGEST_FROZEN_PAUSE_S = 5.0  # between tries to thaw a guest: that long it may stand still after it can be
MOST_TRIES = 10
LAST_TRY_S = 0.5  # before the end: a later one would end as a timeout, and hide why the one before it failed

log = structlog.get_logger(__name__)

Classes = tuple[type[AgentError], ...]


def while_unreachable(stopping: Event, deadline: Deadline) -> Retrying:
    """The request did not get to StorPool, or StorPool said that it did nothing: any call may be sent again."""
    return _until(stopping, _patience(deadline), (StorPoolUnavailable,), _backoff())


def while_unanswered(stopping: Event, deadline: Deadline) -> Retrying:
    """As `while_unreachable`, and the answer was lost: only for a call that may be made twice."""
    classes = (StorPoolUnavailable, StorPoolTimeout, StorPoolBadAnswer)
    return _until(stopping, _patience(deadline), classes, _backoff())


def while_answer_is_lost(stopping: Event, deadline: Deadline) -> Retrying:
    """What was sent may have been done: for a caller that looks before it sends the call again."""
    return _until(stopping, _patience(deadline), (StorPoolTimeout, StorPoolBadAnswer), _backoff())


def while_busy(stopping: Event, deadline: Deadline) -> Retrying:
    """Something has the device open. Most often it is udev, which lets go at once: so the first tries are quick."""
    limit = deadline.within(BUSY_S)
    wait = wait_exponential(multiplier=0.05, max=0.5)
    return _until(stopping, lambda _: limit, (VolumeBusy,), wait)


def until_stopped(stopping: Event) -> Retrying:
    """For what has to be done as soon as it can be, however long that takes: a guest that is frozen stands still."""
    return Retrying(
        retry=retry_if_exception_type(AgentError),
        wait=wait_exponential(multiplier=0.25, max=LONGEST_FROZEN_PAUSE_S),
        stop=stop_when_event_set(stopping),
        sleep=sleep_using_event(stopping),
        before_sleep=_announce,
        reraise=True,
    )


def a_few_times(classes: Classes) -> Retrying:
    """A tool that fails by chance, having done nothing: at once, and not for ever."""
    return Retrying(
        retry=retry_if_exception_type(classes),
        stop=stop_after_attempt(MOST_TRIES),
        before_sleep=_announce,
        reraise=True,
    )


def _until(
    stopping: Event,
    limit: Callable[[BaseException | None], Deadline],
    classes: Classes,
    wait: wait_exponential,
) -> Retrying:
    def over(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return stopping.is_set() or monotonic() + state.upcoming_sleep + LAST_TRY_S >= limit(error).at

    return Retrying(
        retry=retry_if_exception_type(classes),
        wait=wait,
        stop=over,
        sleep=sleep_using_event(stopping),
        before_sleep=_announce,
        reraise=True,
    )


def _backoff() -> wait_random_exponential:
    """Jitter, so that many callers (and hosts) that failed together do not come back together."""
    return wait_random_exponential(multiplier=0.2, min=0.1, max=LONGEST_PAUSE_S)


def _patience(deadline: Deadline) -> Callable[[BaseException | None], Deadline]:
    """A StorPool that says "not now" is waited for; one that is not there only for a while."""
    unreachable = deadline.within(UNREACHABLE_S)

    def limit(error: BaseException | None) -> Deadline:
        said_so = isinstance(error, AgentError) and error.facts.get("transient") is True
        return deadline if said_so else unreachable

    return limit


def _announce(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning(
        "retrying",
        attempt=state.attempt_number,
        wait_s=round(state.upcoming_sleep, 3),
        reason=str(error),
        facts=error.facts if isinstance(error, AgentError) else {},
    )
