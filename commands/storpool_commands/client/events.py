# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Events of the hosts, as they happen."""

# pyright: reportUnknownMemberType=false
# Reason: the decorated methods of pika have no types.

import logging
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread, current_thread
from typing import Any, Self
from uuid import uuid4

from pika import BasicProperties
from pika.channel import Channel
from pika.connection import Connection
from pika.frame import Method
from pika.spec import Basic
from pydantic import ValidationError

from storpool_commands import topology
from storpool_commands.client.link import CLOSE_TIMEOUT_S, Link
from storpool_commands.envelope import Event

EVENTS_AT_ONCE = 200

log = logging.getLogger(__name__)

Arrival = tuple[Channel, Basic.Deliver, bytes]


class Subscription:
    """Calls back for every event whose routing key matches, one at a time, in a thread of its own.

    Events that happen while there is no connection are not seen: an event says that something has changed, what is
    has to be asked for. A callback that raises is logged, and the next event comes.
    """

    def __init__(self, link: Link, binding: str, callback: Callable[[Event], None]) -> None:
        self._link = link
        self._binding = binding
        self._callback = callback
        self._channel: Channel | None = None
        self._closed = False
        self._arrived: SimpleQueue[Arrival | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="storpool-events", daemon=True)
        self._thread.start()
        link.submit(lambda: link.admit(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No callback runs after it, unless it is called from one or a callback takes very long."""
        if self._closed:
            return
        self._closed = True
        self._link.submit(self._leave)
        self._arrived.put(None)
        if self._thread is not current_thread():
            self._thread.join(CLOSE_TIMEOUT_S)

    def connected(self, connection: Connection) -> None:
        channel = connection.channel(on_open_callback=self._set_up)
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_cancel_callback(self._on_cancelled)
        self._channel = channel

    def disconnected(self) -> None:
        self._channel = None

    def _set_up(self, channel: Channel) -> None:
        queue = f"{topology.EVENTS}.{uuid4().hex}"
        channel.basic_qos(prefetch_count=EVENTS_AT_ONCE)
        channel.queue_declare(queue, exclusive=True, auto_delete=True)
        channel.queue_bind(queue, topology.EVENTS, self._binding)
        channel.basic_consume(queue, self._on_event, exclusive=True)

    def _on_event(self, channel: Channel, method: Basic.Deliver, _: BasicProperties, body: bytes) -> None:
        self._arrived.put((channel, method, body))

    def _on_cancelled(self, _: Method[Any]) -> None:
        self._link.drop("the queue of events is gone")

    def _on_closed(self, channel: Channel, error: Exception) -> None:
        if channel is self._channel:
            self._link.drop(self._link.why(error))

    def _leave(self) -> None:
        self._link.dismiss(self)
        channel, self._channel = self._channel, None
        if channel is not None and channel.is_open:
            channel.close()

    def _run(self) -> None:
        while (arrival := self._arrived.get()) is not None and not self._closed:
            channel, method, body = arrival
            self._call_back(method.routing_key, body)
            tag = method.delivery_tag or 0
            self._link.submit(lambda channel=channel, tag=tag: _ack(channel, tag))  # type: ignore[misc]

    def _call_back(self, key: str, body: bytes) -> None:
        """Of a routing key the broker verifies the first word: each host may only use its own."""
        said_by = key.partition(".")[0]
        try:
            event = Event.model_validate_json(body)
            if event.source == f"/hosts/{said_by}":
                self._callback(event)
            else:
                log.warning("an event of %s says that it is one of %s: it is ignored", said_by, event.source)
        except ValidationError as error:
            log.warning("an event cannot be read: %s", error)
        except Exception:
            log.exception("the callback for events failed")


def _ack(channel: Channel, tag: int) -> None:
    if channel.is_open:
        channel.basic_ack(tag)
