# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A tap on the bus: copies of the messages to and from one host, as they really were."""

import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import pika

from storpool_commands import topology


@dataclass(frozen=True)
class Message:
    exchange: str
    routing_key: str
    reply_to: str | None
    correlation_id: str | None
    body: dict[str, Any]


class Tap:
    """Its queue goes with its connection."""

    def __init__(self, url: str, host: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(f"{url}?heartbeat=0"))
        self._channel = self._connection.channel()
        self._queue = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.queue_bind(self._queue, topology.COMMANDS, topology.host_key(host))
        self._channel.queue_bind(self._queue, topology.REPLIES, topology.reply_key(host, "*"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def messages(self) -> list[Message]:
        """What has passed since the last look."""
        found: list[Message] = []
        while True:
            method, properties, body = self._channel.basic_get(self._queue, auto_ack=True)
            if method is None:
                return found
            found.append(
                Message(
                    method.exchange,
                    method.routing_key,
                    properties.reply_to,
                    properties.correlation_id,
                    json.loads(body),
                )
            )
