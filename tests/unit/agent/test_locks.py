# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Turns: one at a time for each object, in order of arrival, and nobody waits for what he does not need."""

import random
import threading
from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from storpool_agent.locks import Locks, Turn


class Queue:
    """Turns that note when they come."""

    def __init__(self) -> None:
        self.locks = Locks()
        self.come: list[str] = []

    def enter(self, name: str, *keys: str) -> Turn:
        turn = Turn(frozenset(keys), lambda: self.come.append(name))
        self.locks.enter(turn)
        return turn


def test_a_free_object_is_had_at_once() -> None:
    queue = Queue()
    queue.enter("a", "volume:1")
    assert queue.come == ["a"]


def test_the_same_object_is_had_in_order_of_arrival() -> None:
    queue = Queue()
    first = queue.enter("a", "volume:1")
    second = queue.enter("b", "volume:1")
    queue.enter("c", "volume:1")
    queue.locks.leave(first)
    assert queue.come == ["a", "b"]
    queue.locks.leave(second)
    assert queue.come == ["a", "b", "c"]


def test_different_objects_are_had_side_by_side() -> None:
    queue = Queue()
    queue.enter("a", "volume:1")
    queue.enter("b", "volume:2")
    assert queue.come == ["a", "b"]


def test_a_turn_waits_for_all_its_objects() -> None:
    queue = Queue()
    volume, vm = queue.enter("a", "volume:1"), queue.enter("b", "vm:1")
    queue.enter("c", "volume:1", "vm:1")
    queue.locks.leave(volume)
    assert queue.come == ["a", "b"]
    queue.locks.leave(vm)
    assert queue.come == ["a", "b", "c"]


def test_a_turn_that_needs_nothing_waits_for_nobody() -> None:
    queue = Queue()
    turn = queue.enter("ping")
    queue.locks.leave(turn)
    assert queue.come == ["ping"]


def test_what_nobody_queues_for_is_forgotten() -> None:
    queue = Queue()
    for name in "abc":
        queue.locks.leave(queue.enter(name, "volume:1", "vm:1"))
    assert queue.locks._queues == {}


@given(st.lists(st.frozensets(st.sampled_from("abcd")), max_size=30), st.randoms(use_true_random=False))
def test_every_turn_comes_and_no_two_share_an_object(wanted: list[frozenset[str]], chance: random.Random) -> None:
    locks = Locks()
    having: list[Turn] = []
    came: list[int] = []

    def come(number: int) -> None:
        having.append(turns[number])
        came.append(number)

    turns = [Turn(keys, partial(come, number)) for number, keys in enumerate(wanted)]
    for turn in turns:
        locks.enter(turn)
    while having:
        held = [key for turn in having for key in turn.keys]
        assert len(held) == len(set(held))
        locks.leave(having.pop(chance.randrange(len(having))))
    assert sorted(came) == list(range(len(wanted)))
    for key in "abcd":
        mine = [number for number in came if key in wanted[number]]
        assert mine == sorted(mine)


class Started(Turn):
    """A turn whose work is done by a thread of its own."""

    def __init__(self, keys: frozenset[str], work: Callable[[Turn], None]) -> None:
        super().__init__(keys, lambda: threading.Thread(target=work, args=(self,)).start())


def test_many_threads_keep_each_object_to_one() -> None:
    locks = Locks()
    inside = dict.fromkeys("abc", 0)
    seen: list[int] = []
    done = threading.Semaphore(0)

    def work(turn: Turn) -> None:
        for key in turn.keys:
            inside[key] += 1
            seen.append(inside[key])
        for key in turn.keys:
            inside[key] -= 1
        locks.leave(turn)
        done.release()

    def enter(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        for _ in range(50):
            locks.enter(Started(frozenset(chance.sample("abc", chance.randint(1, 3))), work))

    threads = [threading.Thread(target=enter, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert all(done.acquire(timeout=10) for _ in range(200))
    assert set(seen) == {1}
