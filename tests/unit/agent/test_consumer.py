# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is settled, and on which channel. A tag means nothing on another one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pika.spec import Basic, BasicProperties
from pydantic import SecretStr

from storpool_agent.bus.consumer import Consumer, Delivery
from storpool_agent.bus.link import Broker
from storpool_agent.bus.topology import Declaration

NOWHERE = Broker("127.0.0.1", 1, "/", "guest", SecretStr("guest"), None)


@dataclass
class FakeChannel:
    """Notes what is acked."""

    is_open: bool = True
    acked: list[tuple[int, bool]] = field(default_factory=list[tuple[int, bool]])
    consuming: dict[str, str] = field(default_factory=dict[str, str])
    """Queue -> tag."""
    cancelled: dict[str, Callable[[object], None]] = field(default_factory=dict[str, Callable[[object], None]])
    """Tag -> what the broker's answer calls."""

    def basic_qos(self, *, prefetch_count: int, callback: Callable[[object], None]) -> None:
        callback(prefetch_count)

    def basic_consume(self, queue: str, _deliver: object, callback: object = None) -> str:
        self.consuming[queue] = f"tag-{len(self.consuming) + len(self.cancelled)}"
        return self.consuming[queue]

    def basic_cancel(self, tag: str, callback: Callable[[object], None]) -> None:
        self.consuming = {queue: other for queue, other in self.consuming.items() if other != tag}
        self.cancelled[tag] = callback

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        self.acked.append((tag, multiple))


class Inbox:
    """Receives what a consumer hands on, and settles what a test names."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.lost = 0
        self.settles: set[bytes] = set()
        self.consumer = Consumer(NOWHERE, Declaration("kvm1", passive=False), self._receive, 4, self._lost)

    def _lost(self) -> None:
        self.lost += 1

    def open(self) -> FakeChannel:
        channel: Any = FakeChannel()
        self.consumer._channel = channel
        return channel  # type: ignore[no-any-return]

    def open_shared(self, consuming: Callable[[object], None] = lambda _ok: None) -> FakeChannel:
        channel: Any = FakeChannel()
        self.consumer._shared._opened(consuming, channel)
        return channel  # type: ignore[no-any-return]

    def deliver(self, channel: FakeChannel, *tags: int) -> None:
        source: Any = channel
        for tag in tags:
            self.consumer._deliver(source, _tagged(tag), BasicProperties(), b"%d" % tag, control=False)
        self.consumer._hand_on()

    def _receive(self, batch: Sequence[Delivery]) -> Sequence[Delivery]:
        self.got += batch
        return [one for one in batch if one.body in self.settles]


def test_a_batch_that_is_stored_whole_is_acked_by_one_frame() -> None:
    inbox = Inbox()
    inbox.settles = {b"1", b"2", b"3"}
    channel = inbox.open()
    inbox.deliver(channel, 1, 2, 3)
    assert channel.acked == [(3, True)]


def test_what_is_kept_back_is_not_acked_with_the_others() -> None:
    inbox = Inbox()
    inbox.settles = {b"1", b"3"}
    channel = inbox.open()
    inbox.deliver(channel, 1, 2, 3)
    assert channel.acked == [(1, False), (3, False)]
    inbox.consumer._ack([inbox.got[1]])
    assert channel.acked[-1] == (2, True)


def test_a_late_ack_does_not_settle_a_message_of_the_next_connection() -> None:
    inbox = Inbox()
    before = inbox.open()
    inbox.deliver(before, 1, 2)
    late = list(inbox.got)
    inbox.consumer._lost()
    after = inbox.open()
    inbox.deliver(after, 1, 2)
    inbox.consumer._ack(late)
    assert (before.acked, after.acked) == ([], [])
    inbox.consumer._ack(inbox.got[2:])
    assert after.acked == [(2, True)]


HOST_QUEUE, CONTROL_QUEUE = "storpool.host.kvm1", "storpool.control.kvm1"


def test_a_pause_leaves_the_control_queue_and_ends_with_a_resume() -> None:
    inbox = Inbox()
    channel = inbox.open()
    inbox.consumer._consume()
    assert set(channel.consuming) == {HOST_QUEUE, CONTROL_QUEUE}
    inbox.consumer._pause(lambda: None)
    assert set(channel.consuming) == {CONTROL_QUEUE}
    inbox.consumer._resume()
    inbox.consumer._resume()
    assert set(channel.consuming) == {HOST_QUEUE, CONTROL_QUEUE}


def test_a_pause_has_come_when_what_had_arrived_is_handed_on() -> None:
    inbox = Inbox()
    inbox.settles = {b"1"}
    channel = inbox.open()
    inbox.consumer._consume()
    seen: list[int] = []
    inbox.consumer._pause(lambda: seen.append(len(inbox.got)))
    source: Any = channel
    inbox.consumer._deliver(source, _tagged(1), BasicProperties(), b"1", control=False)
    assert seen == []
    (answered,) = channel.cancelled.values()
    answered(None)
    assert seen == [1]
    assert channel.acked == [(1, True)]
    inbox.consumer._pause(lambda: seen.append(2))
    assert seen == [1, 2]


def test_a_pause_outlives_its_connection() -> None:
    inbox = Inbox()
    inbox.open()
    inbox.consumer._consume()
    inbox.consumer._pause(lambda: None)
    inbox.consumer._lost()
    after = inbox.open()
    inbox.consumer._consume()
    assert set(after.consuming) == {CONTROL_QUEUE}
    inbox.consumer._resume()
    assert set(after.consuming) == {HOST_QUEUE, CONTROL_QUEUE}


def test_a_pause_and_a_resume_without_a_connection_are_kept_for_the_next() -> None:
    inbox = Inbox()
    seen: list[str] = []
    inbox.consumer._pause(lambda: seen.append("paused"))
    assert seen == ["paused"]
    inbox.consumer._resume()
    after = inbox.open()
    inbox.consumer._consume()
    assert set(after.consuming) == {HOST_QUEUE, CONTROL_QUEUE}


def test_a_pause_is_one_of_the_queue_of_all_hosts_too() -> None:
    inbox = Inbox()
    channel, shared = inbox.open(), inbox.open_shared()
    inbox.consumer._consume()
    assert set(shared.consuming) == {"storpool.any"}
    seen: list[str] = []
    inbox.consumer._pause(lambda: seen.append("paused"))
    assert shared.consuming == {}
    for answered in (*channel.cancelled.values(), *shared.cancelled.values()):
        assert seen == []
        answered(None)
    assert seen == ["paused"]
    inbox.consumer._resume()
    inbox.consumer._resume()
    assert set(shared.consuming) == {"storpool.any"}


def test_a_host_that_is_paused_while_it_connects_takes_nothing_and_is_connected_all_the_same() -> None:
    inbox = Inbox()
    inbox.consumer._pause(lambda: None)
    connected: list[object] = []
    shared = inbox.open_shared(connected.append)
    assert (shared.consuming, connected) == ({}, [None])


def test_an_ack_without_a_channel_is_dropped() -> None:
    inbox = Inbox()
    channel = inbox.open()
    inbox.deliver(channel, 1)
    channel.is_open = False
    inbox.consumer._ack(inbox.got)
    inbox.consumer._lost()
    inbox.consumer._ack(inbox.got)
    assert channel.acked == []


def test_what_arrived_on_a_lost_connection_is_not_handed_on() -> None:
    inbox = Inbox()
    channel: Any = inbox.open()
    inbox.consumer._deliver(channel, _tagged(1), BasicProperties(), b"1", control=False)
    inbox.consumer._lost()
    inbox.consumer._hand_on()
    assert inbox.got == []


def _tagged(tag: int) -> Basic.Deliver:
    method = Basic.Deliver()
    method.delivery_tag = tag
    return method


def test_commands_are_held_until_the_last_reason_is_gone() -> None:
    inbox = Inbox()
    inbox.consumer.hold("full")
    channel = inbox.open()
    inbox.consumer._consume()
    inbox.consumer.link.ready()
    assert set(channel.consuming) == {CONTROL_QUEUE}
    inbox.consumer._pause(lambda: None)
    inbox.consumer.release("full")
    inbox.consumer._follow()
    assert set(channel.consuming) == {CONTROL_QUEUE}
    inbox.consumer._resume()
    assert set(channel.consuming) == {HOST_QUEUE, CONTROL_QUEUE}
    inbox.consumer.hold("full")
    inbox.consumer._follow()
    assert set(channel.consuming) == {CONTROL_QUEUE}


def test_what_is_released_while_the_link_is_set_up_is_taken_when_it_is_ready() -> None:
    inbox = Inbox()
    inbox.consumer.hold("full")
    channel = inbox.open()
    inbox.consumer._consume()
    assert set(channel.consuming) == {CONTROL_QUEUE}
    inbox.consumer._held.discard("full")  # nobody has told the link yet
    inbox.consumer._consuming({CONTROL_QUEUE}, CONTROL_QUEUE, None)
    assert set(channel.consuming) == {HOST_QUEUE, CONTROL_QUEUE}


def test_an_agent_that_stops_takes_nothing_any_more() -> None:
    inbox = Inbox()
    channel = inbox.open()
    inbox.consumer.link.ready()
    inbox.consumer.hold("full")
    channel.is_open = False
    inbox.consumer._cancel()
    channel.is_open = True
    inbox.consumer.release("full")
    inbox.consumer._follow()
    assert channel.consuming == {}


def test_a_pause_that_loses_its_connection_has_come() -> None:
    inbox = Inbox()
    channel = inbox.open()
    inbox.consumer._consume()
    seen: list[str] = []
    inbox.consumer._pause(lambda: seen.append("paused"))
    assert seen == []
    inbox.consumer._lost()
    assert seen == ["paused"]
    for answered in channel.cancelled.values():
        answered(None)
    assert seen == ["paused"]


def test_a_resume_while_the_link_is_set_up_takes_the_queue_once() -> None:
    inbox = Inbox()
    inbox.consumer._pause(lambda: None)
    channel = inbox.open()
    inbox.consumer._resume()
    assert channel.consuming == {}
    inbox.consumer._consume()
    assert set(channel.consuming) == {HOST_QUEUE, CONTROL_QUEUE}
    assert len(set(channel.consuming.values())) == 2


def test_a_pause_without_a_thread_of_the_link_is_kept_for_it() -> None:
    inbox = Inbox()
    seen: list[str] = []
    inbox.consumer.pause(lambda: seen.append("paused"))
    assert (seen, inbox.consumer.held) == ([], frozenset())
    inbox.consumer.link._run_errands()
    assert (seen, inbox.consumer.held) == (["paused"], frozenset({"drain"}))
