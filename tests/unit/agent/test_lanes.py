# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Worker threads: as many as were asked for, in order, and none after the last order to stop."""

import threading
from collections.abc import Iterator
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


def _wait(barrier: threading.Barrier) -> None:
    barrier.wait(WAIT_S)


def test_a_lane_says_how_much_runs_and_how_much_waits() -> None:
    lane = Lane("test", 1)
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(5)

    lane.start()
    lane.put(work)
    lane.put(over.set)
    assert begun.wait(5)
    assert (lane.workers, lane.running, lane.queued) == (1, 1, 1)
    go_on.set()
    assert over.wait(5)
    lane.drain()
    assert lane.join(Deadline.after(5))
    assert (lane.running, lane.queued) == (0, 0)
