# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What arrives: deliveries, handed on in batches, settled on the channel that brought them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from storpool_agent.bus.link import Broker, Link
from storpool_agent.bus.topology import Declaration, declare
from storpool_commands import topology

log = structlog.get_logger()

PREFETCH = 256
"""Deliveries are stored and acked as they come, so this bounds one batch and nothing waits behind it."""
DECLINE_S = 30.0
"""How long a host that cannot take requests of the queue of all hosts leaves them to the others."""


@dataclass(frozen=True, eq=False)
class Delivery:
    """A message, and the one channel on which its tag means anything.

    After a reconnect the broker counts from 1 again, so a settlement that comes too late is dropped here, and the
    broker delivers the message once more.
    """

    body: bytes
    control: bool
    """From the control queue."""
    reply_to: str | None
    correlation_id: str | None
    publisher: str | None
    """The user that published it, as the broker has verified; None when the publisher did not say."""
    tag: int
    channel: Channel
    shared: bool = False
    """From the queue of all hosts."""
    count: int = 0
    """How often the broker has given it to somebody before (quorum queues; nobody acked it)."""


Settled = Sequence[Delivery]
Receive = Callable[[Sequence[Delivery]], Settled]


class Consumer:
    """Takes from the host's queues. It never publishes: the broker's resource alarm would then block its acks too.

    What comes from the queue of all hosts comes on a channel of its own: few at a time, acked one by one, late.
    """

    def __init__(
        self, broker: Broker, declaration: Declaration, receive: Receive, shared_prefetch: int, lost: Callable[[], None]
    ) -> None:
        """`receive` is called in the consumer's thread with all that has arrived; what it returns is acked.

        `lost` is called there when the connection is gone, and with it every delivery that is not acked.
        """
        self._declaration = declaration
        self._receive = receive
        self._shared_prefetch = shared_prefetch
        self._tell_lost = lost
        self._cancelled = False
        self._arrived: list[Delivery] = []
        self._unsettled: set[int] = set()
        self._channel: Channel | None = None
        self._consumers: list[str] = []
        self._shared_channel: Channel | None = None
        self._shared_consumer: str | None = None
        self.link = Link("in", broker, self._opened, self._lost)

    def settle(self, delivery: Delivery) -> None:
        """Ack a delivery that `receive` kept back. Any thread may call this."""
        self.link.call(partial(self._ack, [delivery]))

    def decline(self, delivery: Delivery) -> None:
        """Give one of the queue of all hosts back, and take none for a while. Any thread may call this."""
        self.link.call(partial(self._decline, delivery))

    def cancel(self) -> None:
        """Take nothing more; what has not been acked goes back to the queue. Any thread may call this."""
        self.link.call(self._cancel)

    def _opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.basic_qos(
            prefetch_count=PREFETCH, callback=lambda _ok: declare(channel, self._declaration, self._consume)
        )

    def _consume(self) -> None:
        channel = self._channel
        if channel is None:
            return
        queues = {self._declaration.host_queue, self._declaration.control_queue}
        shared = self._declaration.shared
        waiting = {*queues, topology.ANY_QUEUE} if shared else set(queues)
        for queue in sorted(queues):
            deliver = partial(self._deliver, control=queue == self._declaration.control_queue)
            tag = channel.basic_consume(queue, deliver, callback=partial(self._consuming, waiting, queue))
            self._consumers.append(tag)
        if shared:
            self.link.open_channel(partial(self._opened_shared, partial(self._consuming, waiting, topology.ANY_QUEUE)))

    def _opened_shared(self, consuming: Callable[[object], None], channel: Channel) -> None:
        self._shared_channel = channel
        channel.basic_qos(
            prefetch_count=self._shared_prefetch, callback=lambda _ok: self._consume_shared(channel, consuming)
        )

    def _consume_shared(self, channel: Channel, consuming: Callable[[object], None] | None = None) -> None:
        if channel is not self._shared_channel or not channel.is_open or self._cancelled:
            return
        deliver = partial(self._deliver, control=False, shared=True)
        self._shared_consumer = channel.basic_consume(topology.ANY_QUEUE, deliver, callback=consuming)

    def _consuming(self, waiting: set[str], queue: str, _ok: object) -> None:
        waiting.discard(queue)
        if not waiting:
            self.link.ready()

    def _deliver(
        self,
        channel: Channel,
        method: Basic.Deliver,
        properties: BasicProperties,
        body: bytes,
        *,
        control: bool,
        shared: bool = False,
    ) -> None:
        if not self._arrived:
            self.link.call_later(0, self._hand_on)
        if not shared:
            self._unsettled.add(method.delivery_tag)
        self._arrived.append(
            Delivery(
                body=body,
                control=control,
                reply_to=properties.reply_to,
                correlation_id=properties.correlation_id,
                publisher=properties.user_id,
                tag=method.delivery_tag,
                channel=channel,
                shared=shared,
                count=_count(properties),
            )
        )

    def _hand_on(self) -> None:
        batch, self._arrived = self._arrived, []
        if batch:
            self._ack(self._receive(batch))

    def _ack(self, settled: Settled) -> None:
        self._ack_shared([delivery for delivery in settled if delivery.shared])
        self._ack_own([delivery for delivery in settled if not delivery.shared])

    def _ack_shared(self, settled: Settled) -> None:
        for delivery in settled:
            if delivery.channel is self._shared_channel and delivery.channel.is_open:
                delivery.channel.basic_ack(delivery.tag)

    def _ack_own(self, settled: Settled) -> None:
        channel = self._channel
        tags = {delivery.tag for delivery in settled if delivery.channel is channel}
        if channel is None or not channel.is_open or not tags:
            return
        self._unsettled -= tags
        highest = max(tags)
        if all(tag > highest for tag in self._unsettled):
            channel.basic_ack(highest, multiple=True)
            return
        for tag in sorted(tags):
            channel.basic_ack(tag)

    def _decline(self, delivery: Delivery) -> None:
        channel = delivery.channel
        if channel is not self._shared_channel or not channel.is_open:
            return
        self._cancel_shared(channel)
        channel.basic_nack(delivery.tag, requeue=True)

    def _cancel_shared(self, channel: Channel) -> None:
        if self._shared_consumer is not None:
            channel.basic_cancel(self._shared_consumer)
            self._shared_consumer = None
            self.link.call_later(DECLINE_S, partial(self._consume_shared, channel))

    def _cancel(self) -> None:
        self._cancelled = True
        if self._shared_channel is not None and self._shared_channel.is_open:
            self._cancel_shared(self._shared_channel)
        if self._channel is not None and self._channel.is_open:
            for tag in self._consumers:
                self._channel.basic_cancel(tag)

    def _lost(self) -> None:
        self._channel = None
        self._consumers.clear()
        self._arrived.clear()
        self._unsettled.clear()
        self._shared_channel = None
        self._shared_consumer = None
        self._tell_lost()


def _count(properties: BasicProperties) -> int:
    count = (properties.headers or {}).get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0
