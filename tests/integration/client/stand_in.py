# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the agent of one host: the host's queues are real, the answers are the test's."""

import json
from collections.abc import Callable, Iterable
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any, Self
from uuid import UUID

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from storpool_commands import topology

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0

Request = dict[str, Any]
Answer = Callable[[Request], Iterable[bytes]]


class StandInAgent:
    """Acks a request, then publishes what `answer` makes of it. Connects again when the broker closes it."""

    def __init__(self, url: str, host: str, answer: Answer, *, control: bool = True) -> None:
        self.host = host
        self.requests: list[Request] = []
        self.properties: list[pika.BasicProperties] = []
        self.exchanges: list[str] = []
        self._url = url
        self._answer = answer
        self._control = control
        self._started = Event()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name=f"stand-in {host}")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_TIMEOUT_S), "the stand-in has not started"
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT_S)
        assert not self._thread.is_alive()

    def wait_for(self, count: int) -> None:
        """Until so many requests have come."""
        give_up_at = monotonic() + START_TIMEOUT_S
        while len(self.requests) < count:
            assert monotonic() < give_up_at, f"{len(self.requests)} of {count} requests have come"
            sleep(0.01)

    def say(self, reply: bytes) -> None:
        """Publish a reply to the sender of the first request, from any thread."""
        key = topology.reply_key(self.host, self.properties[0].reply_to or "")
        with pika.BlockingConnection(pika.URLParameters(self._url)) as connection:
            connection.channel().basic_publish(topology.REPLIES, key, self._own(reply))

    @property
    def ids(self) -> list[UUID]:
        """Of the requests, in the order they came."""
        return [UUID(request["id"]) for request in self.requests]

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with pika.BlockingConnection(pika.URLParameters(self._url)) as connection:
                    self._serve(connection.channel())
            except AMQPError:
                sleep(0.1)

    def _serve(self, channel: BlockingChannel) -> None:
        for exchange, kind in topology.EXCHANGES.items():
            if self._control or exchange != topology.CONTROL:
                channel.exchange_declare(exchange, kind, durable=True)
        self._consume(channel, topology.host_queue(self.host), topology.COMMANDS, topology.host_queue_arguments())
        if self._control:
            self._consume(channel, topology.control_queue(self.host), topology.CONTROL, {})
        self._started.set()
        while not self._stopping.is_set():
            channel.connection.process_data_events(time_limit=0.1)
            if not channel.is_open:
                return

    def _consume(self, channel: BlockingChannel, queue: str, exchange: str, arguments: topology.Arguments) -> None:
        channel.basic_qos(prefetch_count=64)
        channel.queue_declare(queue, durable=True, arguments=arguments)
        channel.queue_bind(queue, exchange, topology.host_key(self.host))
        channel.basic_consume(queue, self._on_request)

    def _on_request(self, channel: BlockingChannel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        request = json.loads(body)
        self.requests.append(request)
        self.properties.append(properties)
        self.exchanges.append(method.exchange)
        channel.basic_ack(method.delivery_tag)
        key = topology.reply_key(self.host, properties.reply_to or "")
        for reply in self._answer(request):
            sent = pika.BasicProperties(correlation_id=properties.correlation_id, delivery_mode=2)
            channel.basic_publish(topology.REPLIES, key, self._own(reply), sent)

    def _own(self, reply: bytes) -> bytes:
        """As this host says it, whichever it is."""
        return reply.replace(b'"host":"kvm1"', f'"host":"{self.host}"'.encode(), 1)
