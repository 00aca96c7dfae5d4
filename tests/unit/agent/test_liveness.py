# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which loops are stuck: those that should turn and do not, and those that ended without having been asked to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from structlog.testing import capture_logs

from storpool_agent.liveness import Registry
from storpool_agent.watchdog import BUSY_S, Watchdog

WAIT_S = 5.0
LIMIT_S = 20.0


class Clock:
    """Stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Registry:
    return Registry(clock)


def stuck(registry: Registry) -> list[tuple[str, float]]:
    return [(one.loop, one.for_s) for one in registry.stuck(LIMIT_S)]


def test_a_loop_that_does_not_come_round_is_stuck_until_it_does(registry: Registry, clock: Clock) -> None:
    with registry.loop("outbox") as loop:
        loop.turns()
        clock.now += LIMIT_S
        assert stuck(registry) == []
        clock.now += 1
        assert stuck(registry) == [("outbox", LIMIT_S + 1)]
        loop.turns()
        assert stuck(registry) == []


def test_a_loop_that_waits_or_works_for_others_may_take_for_ever(registry: Registry, clock: Clock) -> None:
    with registry.loop("outbox") as waiting, registry.loop("fast_0") as working:
        waiting.waits()
        working.works()
        clock.now += 1e6
        assert stuck(registry) == []
        assert registry.busy(LIMIT_S) == {"fast_0": 1e6}
        working.waits()
        assert registry.busy(LIMIT_S) == {}


def test_a_loop_that_ended_in_order_is_not_missed(registry: Registry, clock: Clock) -> None:
    with registry.loop("outbox"):
        assert registry.names() == ["outbox"]
    clock.now += 1e6
    assert (stuck(registry), registry.names()) == ([], [])


def test_a_loop_that_died_is_missed_at_once_even_while_it_waited(registry: Registry) -> None:
    def run() -> None:
        with registry.loop("outbox") as loop:
            loop.waits()
            raise ZeroDivisionError

    def die() -> None:
        with suppress(ZeroDivisionError):
            run()

    thread = threading.Thread(target=die)
    thread.start()
    thread.join(WAIT_S)
    assert [(one.loop, one.reason) for one in registry.stuck(LIMIT_S)] == [("outbox", "its thread has ended")]


def test_what_has_no_thread_of_its_own_is_asked(registry: Registry) -> None:
    under_way = [0.0]
    registry.watch("journal", lambda: under_way[0])
    assert (stuck(registry), registry.names()) == ([], ["journal"])
    under_way[0] = LIMIT_S + 1
    assert stuck(registry) == [("journal", LIMIT_S + 1)]


@contextmanager
def watched(registry: Registry, clock: Clock, interval_s: float) -> Iterator[tuple[Watchdog, list[str]]]:
    told: list[str] = []
    yield Watchdog(registry, interval_s, clock, told.append), told


def let_pass(watchdog: Watchdog, clock: Clock, seconds: float) -> None:
    """As the agent's main thread does."""
    for _ in range(int(seconds)):
        clock.now += 1
        watchdog.look()


def test_systemd_is_told_in_time_and_not_at_every_look(registry: Registry, clock: Clock) -> None:
    with watched(registry, clock, 60) as (watchdog, told):
        for _ in range(60):
            watchdog.look()
            clock.now += 1
    assert told == ["WATCHDOG=1"] * 4


def test_systemd_is_not_told_while_a_loop_is_stuck_and_the_log_names_it_once(registry: Registry, clock: Clock) -> None:
    with watched(registry, clock, 60) as (watchdog, told), registry.loop("bus/in") as loop, capture_logs() as said:
        loop.turns()
        watchdog.look()
        let_pass(watchdog, clock, 20)
        before = list(told)
        let_pass(watchdog, clock, 60)
        assert (told, watchdog.stuck) == (before, ("bus/in",))
        loop.turns()
        watchdog.look()
        assert (told, watchdog.stuck) == ([*before, "WATCHDOG=1"], ())
    assert [(line["event"], line["loop"]) for line in said] == [
        ("loop stuck", "bus/in"),
        ("loop turns again", "bus/in"),
    ]


def test_a_loop_is_named_before_systemd_strikes(registry: Registry, clock: Clock) -> None:
    """However short its patience is."""
    for interval_s in (6.0, 60.0, 600.0):
        with watched(registry, clock, interval_s) as (watchdog, _), registry.loop("bus/in") as loop:
            loop.turns()
            let_pass(watchdog, clock, interval_s / 2)
            assert watchdog.stuck == ("bus/in",)


def test_without_systemd_a_stuck_loop_is_named_all_the_same(registry: Registry, clock: Clock) -> None:
    told: list[str] = []
    watchdog = Watchdog(registry, None, clock, told.append)
    with registry.loop("bus/in") as loop:
        loop.turns()
        let_pass(watchdog, clock, 21)
    assert (told, watchdog.stuck) == ([], ("bus/in",))


def test_a_process_that_was_stopped_as_a_whole_has_no_stuck_loop(registry: Registry, clock: Clock) -> None:
    registry.watch("journal", lambda: 300.0)
    with watched(registry, clock, 60) as (watchdog, told), registry.loop("bus/in") as loop:
        loop.turns()
        clock.now += 300
        watchdog.look()
        assert (told, watchdog.stuck) == (["WATCHDOG=1"], ())
        let_pass(watchdog, clock, 21)
        assert watchdog.stuck == ("bus/in", "journal"), "it still does not turn, though it could"


def test_a_worker_that_is_busy_for_hours_is_named_once_unless_it_copies(registry: Registry, clock: Clock) -> None:
    with watched(registry, clock, 60) as (watchdog, told), capture_logs() as said:
        with registry.loop("fast_0") as fast, registry.loop("bulk_0") as bulk:
            fast.works()
            bulk.works()
            clock.now += BUSY_S + 1
            watchdog.look()
            watchdog.look()
    assert [(line["event"], line["worker"]) for line in said] == [("worker busy", "fast_0")]
    assert told == ["WATCHDOG=1"]
