# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The queue of all hosts, which their agents compete for."""

from collections.abc import Callable
from functools import partial

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from storpool_agent.bus.link import Link
from storpool_commands import topology

DECLINE_S = 30.0
"""How long a host that cannot take what is in the queue leaves it to the others."""

Consuming = Callable[[object], None]
OnMessage = Callable[[Channel, Basic.Deliver, BasicProperties, bytes], None]


class SharedQueue:
    """Consumes it on a channel of its own: few messages at a time, each acked late and alone.

    In the thread of the consumer's link only.
    """

    def __init__(self, link: Link, prefetch: int, on_message: OnMessage) -> None:
        """`prefetch`: 0 takes nothing, and looks at no queue."""
        self._link = link
        self.prefetch = prefetch
        """Another one is taken into account at the next `refresh`, `resume` or connection. Any thread may set it."""
        self._on_message = on_message
        self._channel: Channel | None = None
        self._consumer: str | None = None
        self._opening = False
        self._paused = False

    @property
    def wanted(self) -> bool:
        """Messages are to be taken."""
        return self.prefetch > 0 and not self._paused

    def open(self, consuming: Consuming) -> None:
        """Consume, and tell when the broker has agreed."""
        self._opening = True
        self._link.open_channel(partial(self._opened, consuming))

    def settle(self, channel: Channel, tag: int) -> None:
        """Ack a message, if it came on the channel that there is now."""
        if channel is self._channel and channel.is_open:
            channel.basic_ack(tag)

    def decline(self, channel: Channel, tag: int) -> None:
        """Give a message back, to another host if there is one: this one takes none for a while."""
        if channel is not self._channel or not channel.is_open:
            return
        if self._consumer is not None:
            self._cancel(channel, self._consumer)
            self._link.call_later(DECLINE_S, partial(self._consume, channel))
        channel.basic_nack(tag, requeue=True)

    def stop(self) -> None:
        """Take nothing more. What is not acked goes back to the queue when the connection is closed."""
        self._paused = True
        if self._channel is not None and self._channel.is_open and self._consumer is not None:
            self._cancel(self._channel, self._consumer)

    def pause(self, paused: Consuming) -> None:
        """Take nothing more until `resume`, after a reconnect neither; `paused` is called when nothing more comes."""
        self._paused = True
        consumer, self._consumer = self._consumer, None
        if consumer is None or self._channel is None or not self._channel.is_open:
            paused(None)
        else:
            self._channel.basic_cancel(consumer, callback=paused)

    def resume(self, *, now: bool) -> None:
        """Take messages again; `now`: the link is set up, otherwise its set-up takes them."""
        self._paused = False
        if not self.wanted:
            return
        if self._channel is not None:
            self._limit(self._channel)
        elif now and not self._opening:
            self.open(_agreed)

    def refresh(self) -> None:
        """Take as many as `prefetch` says by now."""
        channel = self._channel
        if self._paused or channel is None or not channel.is_open:
            return
        if self._consumer is not None:
            self._cancel(channel, self._consumer)
        if self.wanted:
            self._limit(channel)

    def lost(self) -> None:
        """The connection is gone, and with it all that was not acked."""
        self._channel = None
        self._consumer = None
        self._opening = False

    def _opened(self, consuming: Consuming, channel: Channel) -> None:
        self._opening = False
        self._channel = channel
        self._limit(channel, consuming)

    def _limit(self, channel: Channel, consuming: Consuming | None = None) -> None:
        """The broker applies it to consumers that begin after it."""
        if channel.is_open and self._consumer is None:
            channel.basic_qos(prefetch_count=self.prefetch, callback=lambda _ok: self._consume(channel, consuming))

    def _consume(self, channel: Channel, consuming: Consuming | None = None) -> None:
        if not self.wanted and consuming is not None:
            consuming(None)
        elif channel is self._channel and channel.is_open and self.wanted and self._consumer is None:
            self._consumer = channel.basic_consume(topology.ANY_QUEUE, self._on_message, callback=consuming)

    def _cancel(self, channel: Channel, consumer: str) -> None:
        channel.basic_cancel(consumer)
        self._consumer = None


def _agreed(_ok: object) -> None:
    """Nobody waits for it."""
