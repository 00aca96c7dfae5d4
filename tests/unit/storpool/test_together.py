# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who sends, who shares, and who gets what."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from time import monotonic, sleep

import pytest

from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolTimeout, StorPoolUnavailable, VolumeBusy
from storpool_agent.storpool.together import SLOW_S, Together, _Caller


class Server:
    """Answers with what was sent; holds the first request until it is let go."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.go = Event()
        self.error: Exception | None = None

    def send(self, items: Sequence[str], deadline: Deadline) -> list[str]:
        self.sent.append(list(items))
        if len(self.sent) == 1 and not self.go.wait(deadline.remaining_s):
            raise StorPoolTimeout("the first one hangs")
        if self.error is not None:
            raise self.error
        return list(items)


def crowd(
    pool: ThreadPoolExecutor, together: Together[str, list[str]], names: str, deadline: Deadline
) -> "list[Future[list[str]]]":
    started = [pool.submit(together.submit, name, deadline) for name in names]
    sleep(0.1)
    return started


def test_a_lone_caller_sends_at_once() -> None:
    server = Server()
    server.go.set()
    began = monotonic()
    assert Together("test", server.send).submit("a", Deadline.after(5)) == ["a"]
    assert monotonic() - began < SLOW_S


def test_those_who_come_meanwhile_share_the_next_request() -> None:
    server = Server()
    together = Together("test", server.send)
    with ThreadPoolExecutor(10) as pool:
        crowd(pool, together, "a", Deadline.after(5))
        rest = crowd(pool, together, "bcdef", Deadline.after(5))
        server.go.set()
        assert {tuple(sorted(each.result())) for each in rest} == {("b", "c", "d", "e", "f")}
    assert [len(items) for items in server.sent] == [1, 5]


def test_a_request_that_hangs_does_not_hold_up_the_next() -> None:
    server = Server()
    together = Together("test", server.send)
    with ThreadPoolExecutor(10) as pool:
        (first,) = crowd(pool, together, "a", Deadline.after(5))
        rest = crowd(pool, together, "bc", Deadline.after(5))
        assert sorted(rest[0].result()) == ["b", "c"]
        assert not first.done()
        server.go.set()
        assert first.result() == ["a"]


def test_an_error_is_everybody_s_own_copy() -> None:
    server = Server()
    server.error = VolumeBusy("busy", volume="d.n.a1")
    together = Together("test", server.send)
    with ThreadPoolExecutor(10) as pool:
        crowd(pool, together, "a", Deadline.after(5))
        rest = crowd(pool, together, "bc", Deadline.after(5))
        server.go.set()
        errors = [each.exception() for each in rest]
    assert all(isinstance(error, VolumeBusy) and error.facts == {"volume": "d.n.a1"} for error in errors)
    assert errors[0] is not errors[1]


def test_who_has_more_time_than_the_sender_goes_again() -> None:
    server = Server()
    together = Together("test", server.send)
    with ThreadPoolExecutor(10) as pool:
        impatient = pool.submit(together.submit, "a", Deadline.after(0.2))
        sleep(0.05)
        patient = pool.submit(together.submit, "b", Deadline.after(5))
        assert isinstance(impatient.exception(), StorPoolTimeout)
        assert patient.result() == ["b"]


def test_a_caller_whose_sender_runs_out_of_time_goes_again() -> None:
    """Both are in one request; it ends with the deadline of the one who sent it."""
    server = Server()
    together = Together("test", server.send)
    with ThreadPoolExecutor(10) as pool:
        crowd(pool, together, "a", Deadline.after(5))
        (patient,) = crowd(pool, together, "c", Deadline.after(5))
        impatient: _Caller[str, list[str]] = _Caller("b")
        with together._changed:
            together._waiting.append(impatient)
            request, items = together._take(Deadline.after(0))
        server.error = StorPoolTimeout("no answer")
        with pytest.raises(StorPoolTimeout):
            together._send_all(request, items)
        server.error = None
        server.go.set()
        assert patient.result() == ["c"]
    assert server.sent == [["a"], ["c", "b"], ["c"]]


def test_who_was_not_sent_knows_that_nothing_was_done() -> None:
    server = Server()
    together = Together("test", server.send)
    with ThreadPoolExecutor(10) as pool:
        crowd(pool, together, "a", Deadline.after(5))
        with pytest.raises(StorPoolUnavailable, match="not sent"):
            together.submit("b", Deadline.after(0.2))
        server.go.set()
    assert server.sent == [["a"]]


def test_a_bug_in_the_sending_reaches_everybody() -> None:
    server = Server()
    server.error = KeyError("bug")
    together = Together("test", server.send)
    with ThreadPoolExecutor(10) as pool:
        (first,) = crowd(pool, together, "a", Deadline.after(5))
        rest = crowd(pool, together, "bc", Deadline.after(5))
        server.go.set()
        assert [type(each.exception()) for each in (first, *rest)] == [KeyError] * 3
