# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the agent of one host: the host's queues are real, the answers are the test's."""

import json
from collections.abc import Callable, Iterable
from threading import Event, Thread
from time import sleep
from typing import Any, Self
from uuid import UUID

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from storpool_commands import topology
from storpool_commands.control import Pong
from storpool_commands.envelope import Success

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0

Request = dict[str, Any]
Answer = Callable[[Request], Iterable[bytes]]


class StandInAgent:
    """Acks a request, then publishes what `answer` makes of it. Connects again when the broker closes it."""

    def __init__(self, url: str, host: str, answer: Answer, *, prefetch: int = 64) -> None:
        self.host = host
        self.requests: list[Request] = []
        self.properties: list[pika.BasicProperties] = []
        self._url = url
        self._answer = answer
        self._prefetch = prefetch
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
            channel.exchange_declare(exchange, kind, durable=True)
        self._consume(channel, topology.host_queue(self.host), topology.COMMANDS, topology.host_queue_arguments())
        self._consume(channel, topology.control_queue(self.host), topology.CONTROL, {})
        self._started.set()
        while not self._stopping.is_set():
            channel.connection.process_data_events(time_limit=0.1)
            if not channel.is_open:
                return

    def _consume(self, channel: BlockingChannel, queue: str, exchange: str, arguments: dict[str, Any]) -> None:
        channel.basic_qos(prefetch_count=self._prefetch)
        channel.queue_declare(queue, durable=True, arguments=arguments)
        channel.queue_bind(queue, exchange, topology.host_key(self.host))
        channel.basic_consume(queue, self._on_request)

    def _on_request(
        self, channel: BlockingChannel, method: Any, properties: pika.BasicProperties, body: bytes
    ) -> None:
        request = json.loads(body)
        self.requests.append(request)
        self.properties.append(properties)
        channel.basic_ack(method.delivery_tag)
        key = topology.reply_key(self.host, properties.reply_to or "")
        for reply in self._answer(request):
            sent = pika.BasicProperties(  # type: ignore[no-untyped-call]
                correlation_id=properties.correlation_id, delivery_mode=2
            )
            channel.basic_publish(topology.REPLIES, key, reply, sent)


def pong(request: Request) -> Iterable[bytes]:
    """The answer to ping."""
    result = Pong.model_validate_json('{"host": "kvm1", "version": "0", "time": "2026-01-01T00:00:00Z"}')
    success = Success(id=UUID(request["id"]), host="kvm1", result=result, took_ms=1.0)
    return [success.model_dump_json(by_alias=True).encode()]
