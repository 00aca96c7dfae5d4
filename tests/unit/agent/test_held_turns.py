# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A long job gives its objects up while it changes nothing of them, and has one again in its turn."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from storpool_agent.errors import Cancelled, DeadlinePassed
from storpool_agent.interrupt import Interrupt
from storpool_agent.locks import HeldTurns, Locks, Turn, volume_key

WAIT_S = 5.0
ONE = volume_key("a.b.c")


class Queue:
    """Turns that note when they come."""

    def __init__(self) -> None:
        self.locks = Locks()
        self.come: list[str] = []

    def enter(self, name: str, *keys: str) -> Turn:
        turn = Turn(frozenset(keys), lambda: self.come.append(name))
        self.locks.enter(turn)
        return turn

    def held(self, *turns: Turn) -> HeldTurns:
        return HeldTurns(self.locks, list(turns))


class Waiting(threading.Thread):
    """A job that wants an object again."""

    def __init__(self, queue: Queue, held: HeldTurns, interrupt: Interrupt | None = None) -> None:
        super().__init__()
        self._queue, self._held, self._interrupt = queue, held, interrupt
        self.error: Exception | None = None
        self.go_on = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            with self._held.again("a.b.c", self._interrupt):
                self._queue.come.append("job")
                self.go_on.wait(WAIT_S)
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            self.error = error

    def queued(self) -> None:
        """It stands in the queue."""
        while len(self._queue.locks._queues[ONE]) < 2:
            self.join(0.001)


def test_what_is_given_up_others_have() -> None:
    queue = Queue()
    held = queue.held(queue.enter("job by name", "name:x"), queue.enter("job", ONE))
    queue.enter("attach", ONE)
    held.give_up()
    held.give_up()
    assert queue.come == ["job by name", "job", "attach"]


def test_what_is_held_is_had_without_queueing() -> None:
    queue = Queue()
    held = queue.held(queue.enter("job", ONE))
    queue.enter("attach", ONE)
    with held.again("a.b.c", None):
        assert queue.come == ["job"]


def test_it_is_had_again_behind_those_that_came_before_and_ahead_of_those_that_came_after() -> None:
    queue = Queue()
    held = queue.held(queue.enter("first", ONE))
    attach = queue.enter("attach", ONE)
    held.give_up()
    job = Waiting(queue, held)
    job.queued()
    queue.enter("detach", ONE)
    assert queue.come == ["first", "attach"]
    queue.locks.leave(attach)
    job.go_on.set()
    job.join(WAIT_S)
    assert queue.come == ["first", "attach", "job", "detach"]


def test_a_cancel_ends_the_wait_and_the_place_is_left_when_it_comes_up() -> None:
    queue = Queue()
    attach = queue.enter("attach", ONE)
    interrupt = Interrupt()
    job = Waiting(queue, queue.held(), interrupt)
    job.queued()
    queue.enter("detach", ONE)
    interrupt.set(Cancelled("cancelled"))
    job.join(WAIT_S)
    assert isinstance(job.error, Cancelled)
    assert queue.come == ["attach"]
    queue.locks.leave(attach)
    assert queue.come == ["attach", "detach"]
    interrupt.close()


def test_a_deadline_ends_the_wait() -> None:
    queue = Queue()
    attach = queue.enter("attach", ONE)
    interrupt = Interrupt(datetime.now(UTC) + timedelta(milliseconds=20))
    with pytest.raises(DeadlinePassed), queue.held().again("a.b.c", interrupt):
        pytest.fail("it was not its turn")
    queue.locks.leave(attach)
    assert queue.locks._queues == {}
    interrupt.close()


def test_a_free_object_is_had_at_once_and_a_cancel_before_that_is_for_the_next_step() -> None:
    queue = Queue()
    interrupt = Interrupt()
    interrupt.set(Cancelled("cancelled"))
    with queue.held().again("a.b.c", interrupt):
        pass
    assert queue.locks._queues == {}
    interrupt.close()


def test_a_failure_inside_leaves_the_object() -> None:
    queue = Queue()
    with pytest.raises(ZeroDivisionError), queue.held().again("a.b.c", None):
        raise ZeroDivisionError
    assert queue.locks._queues == {}


def test_of_many_threads_that_are_interrupted_at_any_moment_none_loses_a_turn() -> None:
    locks = Locks()
    inside: list[int] = []
    seen: list[int] = []
    errors: list[Exception] = []

    def work(chance: random.Random) -> None:
        for _ in range(60):
            interrupt = Interrupt()
            end = threading.Thread(target=interrupt.set, args=(Cancelled("cancelled"),))
            try:
                if chance.random() < 0.5:
                    end.start()
                with HeldTurns(locks, []).again(chance.choice(("a", "a", "b")), interrupt):
                    pass
                with HeldTurns(locks, []).again("a", None):
                    inside.append(1)
                    seen.append(len(inside))
                    inside.pop()
            except Cancelled:
                pass
            except Exception as error:  # noqa: BLE001 - it is what the test looks at
                errors.append(error)
            finally:
                if end.ident is not None:
                    end.join()
                interrupt.close()

    _together(8, lambda number: work(random.Random(number)))  # noqa: S311
    assert (errors, set(seen), locks._queues) == ([], {1}, {})


def _together(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
