# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests out, replies in: the client's own channel on the connection."""

# pyright: reportUnknownMemberType=false
# Reason: the decorated methods of pika have no types.

import logging
from typing import Any
from uuid import UUID, uuid4

from pika import BasicProperties
from pika.channel import Channel
from pika.connection import Connection
from pika.frame import Method
from pika.spec import Basic
from pydantic import ValidationError

from storpool_commands import topology
from storpool_commands.client.calls import Call, Calls
from storpool_commands.client.errors import UnreadableReply
from storpool_commands.client.link import Link
from storpool_commands.client.outbox import Outbox
from storpool_commands.client.reasons import hopeless
from storpool_commands.envelope import parse_reply
from storpool_commands.wire import REPLY_TO

SETUP_TIMEOUT_S = 20.0  # a broker may answer a declaration never (RabbitMQ 3.10 after a kill)
REPLIES_AT_ONCE = 500
MAX_PREFIX = 30
"""Of the 63 characters of the word that replies come back under: a dash and 32 more follow."""
REPLY_QUEUE_EXPIRES_MS = 60 * 60 * 1000
"""A named reply queue that nobody reads goes after an hour; the hosts keep the replies for days."""

log = logging.getLogger(__name__)


def _prefix(login: str | None) -> str:
    """A broker that is provisioned lets a login hear replies to its own name, and to what begins with it."""
    return login if login is not None and REPLY_TO.fullmatch(login) and len(login) <= MAX_PREFIX else "mgmt"


class Mailbox:
    """Sends every call; hands every reply to its call.

    With a name of its own the reply queue is durable and outlives this process. Without, it is exclusive and goes
    with the connection: a reply may have gone with it, so after a reconnect every request that has no reply yet is
    sent once more. A host runs an id once, and repeats the reply that it has stored.
    """

    def __init__(self, link: Link, calls: Calls, *, login: str | None, reply_to: str | None, declare: bool) -> None:
        self._link = link
        self._calls = calls
        self._durable = reply_to is not None
        self._reply_to = reply_to or f"{_prefix(login)}-{uuid4().hex}"
        self._declare = declare
        self._channel: Channel | None = None
        self._ready = False
        self._outbox = Outbox(calls, link.later, login=login, reply_to=self._reply_to)

    def connected(self, connection: Connection) -> None:
        channel = connection.channel(on_open_callback=self._set_up)
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_cancel_callback(self._on_cancelled)
        channel.add_on_return_callback(self._outbox.on_returned)
        self._channel = channel
        self._link.later(SETUP_TIMEOUT_S, lambda: self._check_set_up(channel))

    def disconnected(self) -> None:
        self._channel = None
        self._ready = False

    def send(self, call: Call) -> None:
        """In the I/O thread only. Without a connection it is sent when there is one."""
        self._outbox.send(call)

    def _set_up(self, channel: Channel) -> None:
        """Only the last declaration asks for an answer: the broker closes the channel if one before it fails."""
        channel.confirm_delivery(self._outbox.on_confirm)
        channel.basic_qos(prefetch_count=REPLIES_AT_ONCE)
        for exchange in (topology.COMMANDS, topology.CONTROL, topology.REPLIES, topology.EVENTS):
            kind = topology.EXCHANGES[exchange]
            channel.exchange_declare(exchange, kind, passive=not self._declare, durable=True)
        queue = self._declare_queue(channel)
        channel.queue_bind(queue, topology.REPLIES, topology.reply_binding(self._reply_to))
        channel.basic_consume(queue, self._on_reply, exclusive=True, callback=self._on_set_up)

    def _declare_queue(self, channel: Channel) -> str:
        name = f"{topology.REPLIES}.{self._reply_to}"
        if self._durable:
            channel.queue_declare(name, durable=True, arguments={"x-expires": REPLY_QUEUE_EXPIRES_MS})
            return name
        # Another name each time: the broker may hold the last one until it notices that we are gone.
        name = f"{name}.{uuid4().hex[:8]}"
        channel.queue_declare(name, exclusive=True, auto_delete=True)
        return name

    def _on_set_up(self, _: Method[Any]) -> None:
        if self._channel is None or not self._channel.is_open:
            return
        self._ready = True
        self._link.works()
        self._outbox.open(self._channel, [call for call in self._calls.all() if self._is_to_be_sent(call)])

    def _is_to_be_sent(self, call: Call) -> bool:
        return not call.refused and not (call.confirmed and self._durable)

    def _check_set_up(self, channel: Channel) -> None:
        if channel is self._channel and not self._ready:
            self._link.drop("the broker does not answer a declaration")

    def _on_reply(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        try:
            reply = parse_reply(body)
        except ValidationError as error:
            self._on_unreadable(properties, error)
        else:
            # Of a routing key the broker verifies the first word: each host may only use its own.
            said_by = method.routing_key.partition(".")[0]
            if reply.host != said_by:
                log.warning("a reply of %s says that it is one of %s: it is ignored", said_by, reply.host)
            elif reply.id is not None:
                self._calls.deliver(reply.id, reply)
        channel.basic_ack(method.delivery_tag or 0)

    def _on_unreadable(self, properties: BasicProperties, error: ValidationError) -> None:
        log.warning("a reply cannot be read: %s", error)
        try:
            request_id = UUID(properties.correlation_id or "")
        except ValueError:
            return
        for call in self._calls.of(request_id):
            what = "the host has answered, but this version cannot read the answer; is the agent newer?"
            call.inbox.put(UnreadableReply(what, request_id))

    def _on_cancelled(self, _: Method[Any]) -> None:
        self._link.drop("the reply queue is gone")

    def _on_closed(self, channel: Channel, error: Exception) -> None:
        if channel is self._channel:
            self._outbox.close(error)
            self._link.drop(self._link.why(error), hopeless=hopeless(error))
