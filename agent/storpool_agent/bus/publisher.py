# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What leaves: persistent messages, their confirms in flight together."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile

import structlog
from pika.channel import Channel
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from storpool_agent.bus.link import Broker, Link
from storpool_agent.deadline import Deadline

log = structlog.get_logger()


def _nothing() -> None:
    """The default of a message whose fate nobody follows."""


@dataclass(frozen=True, eq=False)
class Message:
    """Something to publish. Exactly one of its callbacks is called, in the publisher's thread.

    Until then it is kept, and sent again after a reconnect: the receiver may get it twice, never zero times.
    """

    exchange: str
    routing_key: str
    message_id: str
    body: bytes
    correlation_id: str | None = None
    mandatory: bool = False
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    confirmed: Callable[[], None] = _nothing
    refused: Callable[[str], None] | None = None
    """The broker had no queue for it (when mandatory) or no room. Default: it is dropped, with a log line."""


class Publisher:
    """Publishes over a connection of its own. Any thread may call `publish`."""

    def __init__(self, broker: Broker, user_id: str | None) -> None:
        self._user_id = user_id
        self._channel: Channel | None = None
        self._mutex = threading.Lock()
        self._settled = threading.Condition(self._mutex)
        self._queue: deque[Message] = deque()
        self._scheduled = False
        self._unconfirmed: dict[int, Message] = {}
        self._returned: set[tuple[str, str]] = set()
        self._next_tag = 1
        self.link = Link("out", broker, self._opened, self._lost)

    def publish(self, *messages: Message) -> None:
        """Queue the messages; they leave in this order."""
        with self._mutex:
            self._queue.extend(messages)
            if self._scheduled or self._channel is None:
                return
            self._scheduled = True
        self.link.call(self._send)

    def wait_idle(self, deadline: Deadline) -> bool:
        """Wait until everything is sent and confirmed; false when it is not at the deadline."""
        with self._settled:
            return self._settled.wait_for(lambda: not self._queue and not self._unconfirmed, deadline.remaining_s)

    def _opened(self, channel: Channel) -> None:
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=lambda _ok: self._start(channel))

    def _start(self, channel: Channel) -> None:
        self._next_tag = 1
        with self._mutex:
            self._channel = channel
        self.link.ready()
        self._send()

    def _send(self) -> None:
        with self._mutex:
            self._scheduled = False
            if self._channel is None or not self._channel.is_open:
                return
            batch, self._queue = self._queue, deque()
            channel = self._channel
            for message in batch:
                self._unconfirmed[self._next_tag] = message
                self._next_tag += 1
        for message in batch:
            channel.basic_publish(
                message.exchange,
                message.routing_key,
                message.body,
                BasicProperties(
                    content_type="application/json",
                    delivery_mode=2,
                    message_id=message.message_id,
                    correlation_id=message.correlation_id or message.message_id,
                    user_id=self._user_id,
                    headers=dict(message.headers) or None,
                ),
                mandatory=message.mandatory,
            )

    def _on_return(self, _channel: Channel, method: Basic.Return, properties: BasicProperties, _body: bytes) -> None:
        """The broker sends it before the confirm of the same message."""
        self._returned.add((properties.message_id or "", method.routing_key))

    def _on_confirm(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        tag = frame.method.delivery_tag
        with self._mutex:
            multiple = frame.method.multiple
            tags = list(takewhile(lambda one: one <= tag, self._unconfirmed)) if multiple else [tag]
            messages = [self._unconfirmed.pop(one) for one in tags]
            if not self._unconfirmed:
                self._settled.notify_all()
        nacked = isinstance(frame.method, Basic.Nack)
        for message in messages:
            self._settle(message, nacked=nacked)

    def _settle(self, message: Message, *, nacked: bool) -> None:
        key = (message.message_id, message.routing_key)
        returned = key in self._returned
        self._returned.discard(key)
        if not (nacked or returned):
            message.confirmed()
            return
        reason = "the broker has no room for it" if nacked else f"no queue takes {message.routing_key}"
        log.warning("message refused", exchange=message.exchange, message_id=message.message_id, reason=reason)
        if message.refused is not None:
            message.refused(reason)

    def _lost(self) -> None:
        with self._mutex:
            self._channel = None
            self._scheduled = False
            self._queue.extendleft(reversed(self._unconfirmed.values()))
            self._unconfirmed.clear()
        self._returned.clear()
