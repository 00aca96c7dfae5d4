# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The floor of the bus: a host that answers every request with the same reply, and does nothing else.

As durable as AMQP alone can be: quorum queues, persistent replies, publisher confirms, and a request is acked when
the broker has confirmed its reply. One pika SelectConnection, confirms in flight together, no journal.
Arguments: the broker's URL, the host's name, the reply.
"""

import sys

import pika
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from storpool_commands import topology

PREFETCH = 256  # as the agent's


class Echo:
    def __init__(self, url: str, host: str, reply: bytes) -> None:
        self._host = host
        self._reply = reply
        self._connection = SelectConnection(pika.URLParameters(url), on_open_callback=self._on_open)
        self._channel: Channel | None = None
        self._connection.ioloop.start()

    def _on_open(self, connection: SelectConnection) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        self._channel = channel
        queue = topology.host_queue(self._host)
        channel.confirm_delivery(self._on_confirm)
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.queue_declare(queue, durable=True, arguments=topology.host_queue_arguments())
        channel.queue_bind(queue, topology.COMMANDS, topology.host_key(self._host))
        channel.basic_consume(queue, self._on_request, callback=lambda _ok: print("{}", flush=True))

    def _on_request(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, _body: bytes) -> None:
        key = topology.reply_key(self._host, properties.reply_to or "")
        reply = BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            message_id=properties.message_id,
            correlation_id=properties.message_id,
        )
        channel.basic_publish(topology.REPLIES, key, self._reply, reply, mandatory=True)

    def _on_confirm(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        """The n-th publish on this channel answers its n-th delivery, so both have the tag n."""
        assert self._channel is not None
        self._channel.basic_ack(frame.method.delivery_tag, multiple=frame.method.multiple)


if __name__ == "__main__":
    Echo(sys.argv[1], sys.argv[2], sys.argv[3].encode())
