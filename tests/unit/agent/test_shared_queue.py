# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The queue of all hosts: what is settled, given back, and taken no more."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from storpool_agent.bus.shared import DECLINE_S, SharedQueue


@dataclass
class FakeChannel:
    """Notes what is asked of it."""

    is_open: bool = True
    calls: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])

    def basic_qos(self, prefetch_count: int, callback: Callable[[object], None]) -> None:
        self.calls.append(("qos", prefetch_count))
        callback(None)

    def basic_consume(self, queue: str, _on_message: object, callback: object) -> str:
        self.calls.append(("consume", queue))
        return "ctag"

    def basic_cancel(self, consumer: str) -> None:
        self.calls.append(("cancel", consumer))

    def basic_ack(self, tag: int) -> None:
        self.calls.append(("ack", tag))

    def basic_nack(self, tag: int, requeue: bool) -> None:
        self.calls.append(("requeue" if requeue else "drop", tag))


class FakeLink:
    """Opens the channels that a test prepares; time passes when the test says so."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.channels: list[FakeChannel] = []

    def open_channel(self, opened: Callable[[Any], None]) -> None:
        self.channels.append(FakeChannel())
        opened(self.channels[-1])

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.later.append((seconds, callback))

    def pass_time(self) -> None:
        waiting, self.later = self.later, []
        for _, callback in waiting:
            callback()


class Inlet:
    """A queue that is consumed."""

    def __init__(self) -> None:
        self.link = FakeLink()
        link: Any = self.link
        self.queue = SharedQueue(link, 4, lambda *_: None)
        self.channel = self.open()

    def open(self) -> Any:
        self.queue.open(lambda _: None)
        channel = self.link.channels[-1]
        assert channel.calls == [("qos", 4), ("consume", "storpool.any")]
        channel.calls.clear()
        return channel


@pytest.fixture
def inlet() -> Inlet:
    return Inlet()


def test_each_message_is_acked_alone(inlet: Inlet) -> None:
    inlet.queue.settle(inlet.channel, 2)
    inlet.queue.settle(inlet.channel, 1)
    assert inlet.channel.calls == [("ack", 2), ("ack", 1)]


def test_a_tag_of_a_lost_connection_means_nothing(inlet: Inlet) -> None:
    before = inlet.channel
    inlet.queue.lost()
    after = inlet.open()
    inlet.queue.settle(before, 1)
    inlet.queue.decline(before, 1)
    assert (before.calls, after.calls) == ([], [])


def test_a_closed_channel_is_left_alone(inlet: Inlet) -> None:
    inlet.channel.is_open = False
    inlet.queue.settle(inlet.channel, 1)
    inlet.queue.decline(inlet.channel, 1)
    inlet.queue.stop()
    assert inlet.channel.calls == []


def test_a_host_that_declines_leaves_the_queue_to_others_for_a_while(inlet: Inlet) -> None:
    inlet.queue.decline(inlet.channel, 1)
    inlet.queue.decline(inlet.channel, 2)
    assert inlet.channel.calls == [("cancel", "ctag"), ("requeue", 1), ("requeue", 2)]
    assert [seconds for seconds, _ in inlet.link.later] == [DECLINE_S]
    inlet.link.pass_time()
    assert inlet.channel.calls[3:] == [("consume", "storpool.any")]


def test_it_does_not_come_back_to_a_connection_that_is_lost(inlet: Inlet) -> None:
    inlet.queue.decline(inlet.channel, 1)
    inlet.queue.lost()
    after = inlet.open()
    inlet.link.pass_time()
    assert ("consume", "storpool.any") not in [*inlet.channel.calls, *after.calls]


def test_what_is_stopped_does_not_begin_again(inlet: Inlet) -> None:
    inlet.queue.decline(inlet.channel, 1)
    inlet.queue.stop()
    inlet.link.pass_time()
    assert inlet.channel.calls == [("cancel", "ctag"), ("requeue", 1)]
    assert not inlet.queue.wanted


def test_a_stop_takes_no_more_and_still_settles(inlet: Inlet) -> None:
    inlet.queue.stop()
    inlet.queue.settle(inlet.channel, 1)
    assert inlet.channel.calls == [("cancel", "ctag"), ("ack", 1)]


def test_a_host_that_wants_none_asks_for_none() -> None:
    link: Any = FakeLink()
    assert not SharedQueue(link, 0, lambda *_: None).wanted


def test_another_width_is_for_a_consumer_that_begins_anew(inlet: Inlet) -> None:
    inlet.queue.prefetch = 9
    inlet.queue.refresh()
    assert inlet.channel.calls == [("cancel", "ctag"), ("qos", 9), ("consume", "storpool.any")]


def test_a_width_of_none_takes_nothing_and_another_takes_again(inlet: Inlet) -> None:
    inlet.queue.prefetch = 0
    inlet.queue.refresh()
    assert inlet.channel.calls == [("cancel", "ctag")]
    inlet.queue.resume(now=True)
    assert inlet.channel.calls == [("cancel", "ctag")]
    inlet.queue.prefetch = 2
    inlet.queue.refresh()
    assert inlet.channel.calls[1:] == [("qos", 2), ("consume", "storpool.any")]


def test_another_width_of_a_paused_queue_is_for_its_resume(inlet: Inlet) -> None:
    inlet.queue.stop()
    inlet.queue.prefetch = 2
    inlet.queue.refresh()
    assert inlet.channel.calls == [("cancel", "ctag")]
    inlet.queue.resume(now=True)
    assert inlet.channel.calls[1:] == [("qos", 2), ("consume", "storpool.any")]
