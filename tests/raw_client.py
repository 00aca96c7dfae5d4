# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A sender that knows nothing of this project's SDK: it publishes bytes, and keeps every message that comes back.

with raw_client(url) as raw:
    raw.publish(b"not JSON")
    assert raw.next_reply()["code"] == "not-json"
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import uuid4

import pika
from pika.adapters.blocking_connection import BlockingChannel

from storpool_commands import topology

REPLY_TIMEOUT_S = 30.0
LOOK_S = 0.05


@dataclass(frozen=True)
class Received:
    """A message as it came."""

    body: bytes
    routing_key: str
    correlation_id: str | None
    publisher: str | None
    headers: Mapping[str, Any]
    """Without those of the broker."""

    @property
    def json(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


class RawClient:
    """Belongs to one thread. `word` is what it asks replies for, unless told otherwise."""

    def __init__(self, connection: pika.BlockingConnection, host: str, *, listen: bool) -> None:
        self.host = host
        self.word = f"raw-{uuid4().hex[:12]}"
        self.received: list[Received] = []
        """Every message that came back, in order."""
        self._read = 0
        self._connection = connection
        self._channel: BlockingChannel = connection.channel()
        self._channel.confirm_delivery()
        for exchange, kind in topology.EXCHANGES.items():
            self._channel.exchange_declare(exchange, kind, durable=True)
        if listen:
            self.listen(self.word)

    def listen(self, word: str) -> None:
        """Keep what comes for this word, too."""
        queue = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.queue_bind(queue, topology.REPLIES, topology.reply_binding(word))
        self._channel.basic_consume(queue, self._keep, auto_ack=True)

    def publish(
        self,
        body: bytes | Mapping[str, Any],
        *,
        exchange: str = topology.COMMANDS,
        reply_to: str | None = "",
        user_id: str | None = None,
        correlation_id: str | None = None,
        routing_key: str | None = None,
    ) -> None:
        """Hand a message to the broker; `reply_to` is this client's word unless it is given."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            reply_to=self.word if reply_to == "" else reply_to,
            user_id=user_id,
            correlation_id=correlation_id,
        )
        key = routing_key or topology.host_key(self.host)
        self._channel.basic_publish(exchange, key, content, properties, mandatory=True)

    def ask(self, command: Mapping[str, Any], *, request_id: str | None = None, **envelope: Any) -> str:
        """Publish a well-formed request; its id."""
        request_id = request_id or str(uuid4())
        self.publish({"id": request_id, "protocol": 1, "body": command, **envelope})
        return request_id

    def ask_any(self, command: Mapping[str, Any], *, request_id: str | None = None, **envelope: Any) -> str:
        """Publish a well-formed request for any host; its id."""
        request_id = request_id or str(uuid4())
        request = {"id": request_id, "protocol": 1, "body": command, **envelope}
        self.publish(request, routing_key=topology.any_key())
        return request_id

    def next_reply(self, timeout_s: float = REPLY_TIMEOUT_S) -> dict[str, Any]:
        """The first message that nobody has read."""
        self._wait(lambda: len(self.received) > self._read, timeout_s)
        self._read += 1
        return self.received[self._read - 1].json

    def reply(self, request_id: str, timeout_s: float = REPLY_TIMEOUT_S) -> dict[str, Any]:
        """The final reply of a request, whenever it came."""
        self._wait(lambda: bool(self.replies(request_id)), timeout_s)
        return self.replies(request_id)[0].json

    def replies(self, request_id: str) -> list[Received]:
        """All final replies of a request that have come so far."""
        return [one for one in self.received if _is_final(one.json) and one.json["id"] == request_id]

    def wait_for(self, count: int, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Until so many messages have come."""
        self._wait(lambda: len(self.received) >= count, timeout_s)

    def settle(self) -> None:
        """Until everything that was published before is answered: one more ping through the whole path."""
        self.reply(self.ask({"command": "ping"}))
        self._read = len(self.received)

    def listen_for(self, seconds: float) -> None:
        """Take in what comes for a while."""
        give_up_at = monotonic() + seconds
        while monotonic() < give_up_at:
            self._connection.process_data_events(LOOK_S)

    def answered_twice(self) -> dict[str, int]:
        """Ids with more than one final reply."""
        counts = Counter(one.json["id"] for one in self.received if _is_final(one.json) and one.json["id"])
        return {request_id: count for request_id, count in counts.items() if count > 1}

    def dead_letter(self, timeout_s: float = REPLY_TIMEOUT_S) -> Received:
        """Take the oldest message from the dead letters."""
        give_up_at = monotonic() + timeout_s
        while True:
            method, properties, body = self._channel.basic_get(topology.DEAD_LETTERS, auto_ack=True)
            if method is not None:
                return _received(method.routing_key, properties, body)
            assert monotonic() < give_up_at, "nothing was dead-lettered"
            self._connection.process_data_events(LOOK_S)

    def waiting(self, queue: str) -> int:
        """How many messages of a queue nobody has been given, or they came back."""
        count: int = self._channel.queue_declare(queue, passive=True).method.message_count
        return count

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> None:
        give_up_at = monotonic() + timeout_s
        while not condition():
            assert monotonic() < give_up_at, f"no such reply within {timeout_s} s; the last ones: {self.received[-3:]}"
            self._connection.process_data_events(LOOK_S)

    def _keep(self, _channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        self.received.append(_received(method.routing_key, properties, body))


@contextmanager
def raw_client(url: str, host: str = "kvm1", *, listen: bool = True) -> Iterator[RawClient]:
    """Connected until the end of the block."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0  # it may be idle while its thread does other things
    with pika.BlockingConnection(parameters) as connection:
        yield RawClient(connection, host, listen=listen)


def _received(routing_key: str, properties: pika.BasicProperties, body: bytes) -> Received:
    headers = {key: value for key, value in (properties.headers or {}).items() if not key.startswith("x-")}
    return Received(body, routing_key, properties.correlation_id, properties.user_id, headers)


def _is_final(reply: Mapping[str, Any]) -> bool:
    return reply["status"] in {"success", "failure"}
