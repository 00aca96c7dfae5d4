# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Worker threads: as many as were asked for, in order, and none after the last order to stop."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from storpool_agent.deadline import Deadline
from storpool_agent.lanes import Lane

WAIT_S = 5.0


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane("fast", 2)
    lane.start()
    yield lane
    lane.drain()
    assert lane.join(Deadline.after(WAIT_S))


def test_work_is_done_side_by_side(lane: Lane) -> None:
    both = threading.Barrier(3)
    for _ in range(2):
        lane.put(lambda: _wait(both))
    _wait(both)


def test_one_worker_keeps_the_order() -> None:
    lane, finished = Lane("fast", 1), threading.Event()
    done: list[int] = []
    for number in range(5):
        lane.put(partial(done.append, number))
    lane.put(finished.set)
    lane.start()
    assert finished.wait(WAIT_S)
    lane.drain()
    assert lane.join(Deadline.after(WAIT_S))
    assert done == [0, 1, 2, 3, 4]


def test_draining_finishes_what_runs_and_starts_nothing_more() -> None:
    lane = Lane("fast", 1)
    lane.start()
    running, go_on, late = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        go_on.wait(WAIT_S)

    lane.put(work)
    lane.put(late.set)
    assert running.wait(WAIT_S)
    lane.drain()
    assert not lane.join(Deadline.after(0.05))
    go_on.set()
    assert lane.join(Deadline.after(WAIT_S))
    assert not late.is_set()


def test_the_threads_bear_the_name_of_their_lane(lane: Lane) -> None:
    names = {thread.name for thread in threading.enumerate()}
    assert {"fast_0", "fast_1"} <= names


def test_what_waits_and_what_is_at_work_is_told() -> None:
    lane = Lane("fast", 2)
    assert (lane.workers, lane.active, lane.queued, lane.oldest_s) == (0, 0, 0, 0.0)
    begun, go_on = threading.Barrier(3), threading.Event()

    def work() -> None:
        _wait(begun)
        go_on.wait(WAIT_S)

    for _ in range(2):
        lane.put(work)
    lane.put(lambda: None)
    assert (lane.active, lane.queued) == (0, 3)
    assert lane.oldest_s > 0
    lane.start()
    _wait(begun)
    assert (lane.workers, lane.active, lane.queued) == (2, 2, 1)
    assert 0 < lane.oldest_s < WAIT_S
    go_on.set()
    lane.put(lambda: None)
    lane.drain()
    assert lane.join(Deadline.after(WAIT_S))
    assert lane.active == 0


def _wait(barrier: threading.Barrier) -> None:
    barrier.wait(WAIT_S)


def test_a_lane_becomes_wider_while_it_works(lane: Lane) -> None:
    all_four = threading.Barrier(5)
    for _ in range(4):
        lane.put(lambda: _wait(all_four))
    lane.resize(4)
    _wait(all_four)
    assert {"fast_2", "fast_3"} <= {thread.name for thread in threading.enumerate()}


def test_a_lane_becomes_narrower_when_its_workers_are_done(lane: Lane) -> None:
    before = [thread for thread in threading.enumerate() if thread.name.startswith("fast_")]
    both, go_on = threading.Barrier(3), threading.Event()

    def work() -> None:
        _wait(both)
        go_on.wait(WAIT_S)

    for _ in range(2):
        lane.put(work)
    _wait(both)
    lane.resize(1)
    assert all(thread.is_alive() for thread in before)
    go_on.set()
    until(lambda: sum(thread.is_alive() for thread in before) == 1)
    lane.resize(2)
    again = threading.Barrier(3)
    for _ in range(2):
        lane.put(lambda: _wait(again))
    _wait(again)


def test_a_lane_that_drains_does_not_grow(lane: Lane) -> None:
    lane.drain()
    lane.resize(4)
    assert lane.join(Deadline.after(WAIT_S))


def until(condition: Callable[[], bool]) -> None:
    give_up = Deadline.after(WAIT_S)
    while not condition():
        assert not give_up.passed
        threading.Event().wait(0.01)
