# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A clock that is set: what is told, what is not forgotten then, and which deadlines are over."""

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from storpool_agent.clock import WARY_S, ClockWatch
from storpool_agent.expiry import SKEW_S, Expiry
from storpool_agent.housekeeping import FORGET_S, Housekeeping
from storpool_agent.journal.journal import RETENTION_S, Arrival, Journal

DAY_S = 86400.0
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Clocks:
    """The wall clock, which is set, and the time since boot, which only passes."""

    def __init__(self) -> None:
        self.wall = 1_795_000_000.0
        self.boot = 5000.0
        self.watch = ClockWatch(lambda: self.wall, lambda: self.boot)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds

    def jumps(self) -> list[float]:
        with capture_logs() as said:
            self.watch.look()
        assert all(line["event"] == "clock jumped" for line in said)
        return [line["by_s"] for line in said]


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_time_that_passes_is_no_jump(clocks: Clocks) -> None:
    for _ in range(100):
        clocks.pass_time(DAY_S)
        assert clocks.jumps() == []
    assert not clocks.watch.is_doubtful


@pytest.mark.parametrize("by_s", [3600.0, -3600.0, 2 * DAY_S, -2 * DAY_S, 74 * 365 * DAY_S, -56 * 365 * DAY_S])
def test_a_jump_is_told_once_with_by_how_much(clocks: Clocks, by_s: float) -> None:
    clocks.wall += by_s
    assert (clocks.jumps(), clocks.jumps()) == ([by_s], [])


def test_a_small_step_is_none_and_small_steps_add_up(clocks: Clocks) -> None:
    clocks.wall += 40
    assert clocks.jumps() == []
    clocks.pass_time(DAY_S)
    clocks.wall += 40
    assert clocks.jumps() == [80]


def test_for_a_day_nothing_is_forgotten(clocks: Clocks, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not by a look of the housekeeping that comes before anybody else has noticed."""
    monkeypatch.setattr("storpool_agent.journal.journal.time", lambda: clocks.wall)
    journal.accept([Arrival("a", "ping", b"{}", None, None)])
    journal.finish("a", b"{}")
    housekeeping = Housekeeping(journal, clocks.watch)
    clocks.wall += RETENTION_S + 1
    assert housekeeping.prune() == FORGET_S
    clocks.pass_time(WARY_S - 1)
    assert (housekeeping.prune(), journal.record("a") is None) == (FORGET_S, False)
    clocks.pass_time(2)
    assert (housekeeping.prune(), journal.record("a")) == (1.0, None)


def test_a_reply_that_was_postponed_goes_out_when_the_clock_was_set_back(
    journal: Journal, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storpool_agent.journal.outgoing.time", lambda: clocks.wall)
    journal.accept([Arrival("a", "ping", b"{}", None, "me")])
    (reply,) = journal.finish("a", b"{}")
    for _ in range(10):
        journal.outgoing.postpone(reply)
    journal.outgoing.flush()
    assert journal.outgoing.due() == []
    clocks.wall -= DAY_S
    assert journal.outgoing.due() == [reply]


class Waiting:
    """A deadline two minutes from now."""

    def __init__(self) -> None:
        self.now, self.steady = NOON, 100.0
        self.expiry = Expiry(NOON + timedelta(seconds=120), lambda: self.now, lambda: self.steady)

    def step(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def pass_time(self, seconds: float) -> None:
        self.step(seconds)
        self.steady += seconds


def test_without_a_step_a_deadline_passes_when_it_says() -> None:
    waiting = Waiting()
    waiting.pass_time(119)
    assert (waiting.expiry.passed, waiting.expiry.remaining_s) == (False, 1)
    waiting.pass_time(1)
    assert (waiting.expiry.passed, waiting.expiry.remaining_s) == (True, 0)


def test_a_small_step_forward_expires_nothing_and_gives_nothing_away() -> None:
    waiting = Waiting()
    waiting.pass_time(80)
    waiting.step(SKEW_S - 1)
    assert (waiting.expiry.passed, waiting.expiry.remaining_s) == (False, 40)
    waiting.pass_time(40)
    assert waiting.expiry.passed


def test_a_large_step_forward_is_a_correction() -> None:
    waiting = Waiting()
    waiting.step(120 + SKEW_S)
    assert waiting.expiry.passed


def test_after_a_step_back_the_wall_clock_counts() -> None:
    waiting = Waiting()
    waiting.pass_time(119)
    waiting.step(-3600)
    waiting.pass_time(60)
    assert not waiting.expiry.passed


def test_what_has_passed_when_it_comes_has_passed() -> None:
    assert Expiry(NOON, lambda: NOON + timedelta(seconds=1)).passed
