# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests on their way to the broker, until it confirms each."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from pika import BasicProperties
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method
from pika.spec import Basic

from storpool_commands import topology
from storpool_commands.client.calls import Call, Calls
from storpool_commands.client.errors import HostUnknown, RequestRefused

NACK_PAUSE_S = 1.0
REFUSALS = {311, 403, 404, 406}  # too large, no permission, no exchange, wrong user-id
Later = Callable[[float, Callable[[], None]], None]


class Outbox:
    """Publishes with confirm and mandatory. In the I/O thread only.

    A broker refuses a message by closing the channel, and does not say which one it was. If several were on their
    way, they are then sent one by one, so that the one that it refuses fails and the others arrive.
    """

    def __init__(self, calls: Calls, later: Later, *, login: str | None, reply_to: str) -> None:
        self._calls = calls
        self._later = later
        self._login = login
        self._reply_to = reply_to
        self._channel: Channel | None = None
        self._next_tag = 1
        self._to_send: deque[Call] = deque()
        self._unconfirmed: OrderedDict[int, Call] = OrderedDict()
        self._one_by_one = False

    def open(self, channel: Channel, calls: Iterable[Call]) -> None:
        """Take a channel that is in confirm mode and has published nothing."""
        self._channel = channel
        self._next_tag = 1
        self._to_send.extend(calls)
        self._pump()

    def close(self, error: Exception) -> None:
        """The channel has gone. What it carried is for the next one."""
        if isinstance(error, ChannelClosedByBroker) and error.reply_code in REFUSALS:
            self._one_by_one = len(self._unconfirmed) > 1
            if len(self._unconfirmed) == 1:
                (call,) = self._unconfirmed.values()
                what = f"the broker refused the request: {error.reply_text} ({error.reply_code})"
                call.inbox.put(RequestRefused(what, call.request_id))
                call.refused = True
        self._channel = None
        self._to_send.clear()
        self._unconfirmed.clear()

    def send(self, call: Call) -> None:
        """Without a channel it waits for one."""
        if self._channel is not None:
            self._to_send.append(call)
            self._pump()

    def _pump(self) -> None:
        while self._to_send and self._channel is not None and self._channel.is_open:
            if self._one_by_one and self._unconfirmed:
                return
            call = self._to_send.popleft()
            if call.body is not None and call.carrier is not self._channel and self._calls.take(call):
                self._publish(self._channel, call, call.body)
        self._one_by_one = self._one_by_one and bool(self._unconfirmed)

    def _publish(self, channel: Channel, call: Call, body: bytes) -> None:
        properties = BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            message_id=str(call.request_id),
            correlation_id=str(call.request_id),
            reply_to=self._reply_to,
            user_id=self._login,
        )
        channel.basic_publish(call.exchange, topology.command_key(call.host), body, properties, mandatory=True)
        call.carrier = channel
        self._unconfirmed[self._next_tag] = call
        self._next_tag += 1

    def on_confirm(self, frame: Method[Any]) -> None:
        last: int = frame.method.delivery_tag
        tags = [tag for tag in self._unconfirmed if tag <= last] if frame.method.multiple else [last]
        for tag in tags:
            call = self._unconfirmed.pop(tag)
            if isinstance(frame.method, Basic.Ack):
                call.confirmed = True
            else:  # the queue is full, or its leader is away: the host has not got it
                call.carrier = None
                self._later(NACK_PAUSE_S, lambda call=call: self.send(call))  # type: ignore[misc]
        self._pump()

    def on_returned(self, _: Channel, __: Basic.Return, properties: BasicProperties, ___: bytes) -> None:
        """No queue. A request that was confirmed before has had one: then only its repetition found none."""
        request_id = UUID(properties.message_id)
        for call in self._calls.of(request_id):
            if not call.confirmed:
                what = f"there is no queue of {call.addressee}: mistyped, or not provisioned"
                call.inbox.put(HostUnknown(what, request_id))
