# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Worker threads: as many as were asked for, in order, and none after the last order to stop."""

import threading
from collections.abc import Iterator

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
    lane.put(lambda: both.wait(WAIT_S) and None)
    lane.put(lambda: both.wait(WAIT_S) and None)
    both.wait(WAIT_S)


def test_one_worker_keeps_the_order() -> None:
    lane, done = Lane("fast", 1), list[int]()
    for number in range(5):
        lane.put(lambda number=number: done.append(number))  # type: ignore[misc]
    lane.put(last := threading.Event().set)
    lane.start()
    lane.put((finished := threading.Event()).set)
    assert finished.wait(WAIT_S)
    lane.drain()
    assert lane.join(Deadline.after(WAIT_S))
    assert done == [0, 1, 2, 3, 4]
    assert last is not None


def test_draining_finishes_what_runs_and_starts_nothing_more() -> None:
    lane = Lane("fast", 1)
    lane.start()
    running, go_on, late = threading.Event(), threading.Event(), threading.Event()
    lane.put(lambda: running.set() or go_on.wait(WAIT_S) and None)
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
