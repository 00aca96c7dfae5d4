# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The sender of every request: a raw pika SelectConnection client that knows nothing of the SDK.

Agent and floor are measured by this same program, so that only what serves the requests differs.
Arguments: the broker's URL, and the word that replies come back to. Each line in is a job: `host` to send to,
`commands` to send `repeat` times over, how many may be outstanding (`window`).
"""

import json
import sys
from collections.abc import Mapping
from time import perf_counter
from typing import Any
from uuid import uuid4

import pika
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from storpool_commands import topology

MAX_FAILURES = 3
"""How many failures are handed back; one is enough to distrust the figure."""


class LoadGenerator:
    """One connection, one job at a time."""

    def __init__(self, url: str, reply_to: str) -> None:
        self._reply_to = reply_to
        self._queue = f"bench.replies.{reply_to}"
        parameters = pika.URLParameters(url)
        parameters.heartbeat = 0  # nobody reads the socket between two jobs
        self._connection = SelectConnection(
            parameters, on_open_callback=self._on_open, on_close_callback=self._on_close
        )
        self._channel: Channel | None = None
        self._pending: list[tuple[str, bytes]] = []
        self._sent: dict[str, float] = {}
        self._latencies_ms: list[float] = []
        self._failures: list[str] = []
        self._key = ""
        self._connection.ioloop.start()

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        requests = [_request(command) for _ in range(job["repeat"]) for command in job["commands"]]
        self._key = topology.host_key(job["host"])
        self._pending = requests[::-1]
        self._latencies_ms, self._failures = [], []
        started = perf_counter()
        for _ in range(min(job["window"], len(requests))):
            self._send()
        self._connection.ioloop.start()
        return {
            "elapsed_s": perf_counter() - started,
            "latencies_ms": self._latencies_ms,
            "failures": self._failures[:MAX_FAILURES],
        }

    def _send(self) -> None:
        assert self._channel is not None
        request_id, body = self._pending.pop()
        properties = BasicProperties(
            content_type="application/json", delivery_mode=2, message_id=request_id, reply_to=self._reply_to
        )
        self._sent[request_id] = perf_counter()
        self._channel.basic_publish(topology.COMMANDS, self._key, body, properties, mandatory=True)

    def _on_reply(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        sent = self._sent.pop(properties.correlation_id or "", None)
        if sent is None:
            return
        self._latencies_ms.append((perf_counter() - sent) * 1000)
        if b'"status":"success"' not in body:
            self._failures.append(body.decode())
        if self._pending:
            self._send()
        elif not self._sent:
            self._connection.ioloop.stop()

    def _on_open(self, connection: SelectConnection) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_return_callback(lambda *_: sys.exit("nobody serves this host"))
        channel.confirm_delivery(lambda _frame: None)
        channel.queue_declare(self._queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(self._queue, topology.REPLIES, topology.reply_binding(self._reply_to))
        channel.basic_consume(self._queue, self._on_reply, callback=lambda _ok: self._connection.ioloop.stop())

    def _on_close(self, _connection: SelectConnection, reason: BaseException) -> None:
        sys.exit(f"the broker closed the connection: {reason}")


def _request(command: Mapping[str, Any]) -> tuple[str, bytes]:
    request_id = str(uuid4())
    return request_id, json.dumps({"id": request_id, "protocol": 1, "body": command}).encode()


def main() -> None:
    url, reply_to = sys.argv[1:]
    generator = LoadGenerator(url, reply_to)
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(generator.run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
