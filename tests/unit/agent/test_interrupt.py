# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why long work ends: one reason, the first, seen by everybody who waits."""

import os
import select
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from storpool_agent.errors import Cancelled, DeadlinePassed
from storpool_agent.interrupt import AgentStopping, Interrupt

PAST = datetime.now(UTC) - timedelta(seconds=1)
WAIT_S = 5.0


@pytest.fixture
def interrupt() -> Iterator[Interrupt]:
    interrupt = Interrupt()
    yield interrupt
    interrupt.close()


def readable(interrupt: Interrupt) -> bool:
    poll = select.poll()
    poll.register(interrupt.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def test_without_a_reason_work_goes_on(interrupt: Interrupt) -> None:
    interrupt.check()
    interrupt.wait(0)
    assert (interrupt.reason, readable(interrupt)) == (None, False)


def test_the_first_reason_counts(interrupt: Interrupt) -> None:
    first = Cancelled("cancelled")
    interrupt.set(first)
    interrupt.set(AgentStopping())
    assert (interrupt.reason, readable(interrupt)) == (first, True)
    for look in (interrupt.check, lambda: interrupt.wait(WAIT_S)):
        with pytest.raises(Cancelled):
            look()


def test_a_wait_ends_with_the_reason(interrupt: Interrupt) -> None:
    ended = threading.Event()

    def wait() -> None:
        try:
            interrupt.wait(60)
        except AgentStopping:
            ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    interrupt.set(AgentStopping())
    thread.join(WAIT_S)
    assert ended.is_set()


def test_who_waits_for_something_else_is_told_once(interrupt: Interrupt) -> None:
    told: list[str] = []
    interrupt.tell(lambda: told.append("before"))
    interrupt.set(Cancelled("cancelled"))
    interrupt.set(Cancelled("again"))
    interrupt.tell(lambda: told.append("after"))
    assert told == ["before", "after"]


def test_who_is_told_may_look(interrupt: Interrupt) -> None:
    seen: list[Exception | None] = []
    interrupt.tell(lambda: seen.append(interrupt.reason))
    interrupt.set(Cancelled("cancelled"))
    assert isinstance(seen[0], Cancelled)


def test_a_deadline_is_of_the_wall_clock_and_no_reason() -> None:
    interrupt = Interrupt(PAST)
    assert (interrupt.reason, interrupt.within(60)) == (None, 0.0)
    for look in (interrupt.check, lambda: interrupt.wait(60)):
        with pytest.raises(DeadlinePassed, match=PAST.isoformat().replace("+", r"\+")):
            look()
    interrupt.close()


def test_a_reason_comes_before_the_deadline() -> None:
    interrupt = Interrupt(PAST)
    interrupt.set(Cancelled("cancelled"))
    with pytest.raises(Cancelled):
        interrupt.check()
    interrupt.close()


def test_a_poll_lasts_no_longer_than_the_deadline() -> None:
    interrupt = Interrupt(datetime.now(UTC) + timedelta(seconds=100))
    assert interrupt.within(60) == 60
    assert 90 < interrupt.within(1000) <= 100
    interrupt.close()


def test_a_closed_one_holds_no_descriptor_and_can_still_be_set() -> None:
    interrupt = Interrupt()
    descriptor = interrupt.fileno()
    interrupt.close()
    interrupt.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    interrupt.set(Cancelled("late"))
    with pytest.raises(Cancelled):
        interrupt.check()


def test_of_many_threads_one_gives_the_reason(interrupt: Interrupt) -> None:
    told: list[int] = []
    interrupt.tell(lambda: told.append(1))
    reasons = [Cancelled(str(number)) for number in range(8)]
    threads = [threading.Thread(target=interrupt.set, args=(reason,)) for reason in reasons]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert interrupt.reason in reasons
    assert told == [1]
