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
from storpool_agent.bus.shared import SharedQueue
from storpool_agent.bus.topology import Declaration, declare
from storpool_commands import topology

log = structlog.get_logger()

PREFETCH = 256
"""Deliveries are stored and acked as they come, so this bounds one batch and nothing waits behind it."""


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
    """How often the broker had given it to somebody before, who did not ack it (quorum queues)."""


DRAIN = "drain"
"""The reason that a drain is; a restart ends it."""

Settled = Sequence[Delivery]
Receive = Callable[[Sequence[Delivery]], Settled]


class Consumer:
    """Takes from the host's queues, and from that of all hosts.

    It never publishes: the broker's resource alarm would then block its acks too.
    """

    def __init__(
        self, broker: Broker, declaration: Declaration, receive: Receive, prefetch_shared: int, lost: Callable[[], None]
    ) -> None:
        """`receive` is called in the consumer's thread with all that has arrived; what it returns is acked.

        `lost` is called there when the connection is gone, and with it every delivery that was not acked.
        """
        self._declaration = declaration
        self._receive = receive
        self._arrived: list[Delivery] = []
        self._unsettled: set[int] = set()
        self._channel: Channel | None = None
        self._consumers: dict[str, str] = {}
        """Queue -> consumer tag."""
        self._set_up = False
        """On this connection it has begun to take messages."""
        self._held: set[str] = set()
        """Why no commands are taken."""
        self._pausing: list[Callable[[], None]] = []
        """Who waits to be told that nothing more comes."""
        self._cancelled = False
        self._told_lost = lost
        self.link = Link("in", broker, self._opened, self._lost)
        self._shared = SharedQueue(self.link, prefetch_shared, partial(self._deliver, control=False, shared=True))

    @property
    def held(self) -> frozenset[str]:
        """Why commands are left in their queues; nothing: they are taken."""
        return frozenset(self._held)

    def settle(self, delivery: Delivery) -> None:
        """Ack a delivery that `receive` kept back. Any thread may call this."""
        self.link.call(partial(self._ack, [delivery]))

    def decline(self, delivery: Delivery) -> None:
        """Leave a delivery of the queue of all hosts to another host. Any thread may call this."""
        self.link.call(partial(self._shared.decline, delivery.channel, delivery.tag))

    def cancel(self) -> None:
        """Take nothing more; what has not been acked goes back to the queue. Any thread may call this."""
        self.link.call(self._cancel)

    def pause(self, paused: Callable[[], None]) -> None:
        """Take no commands any more, after a reconnect neither; control requests go on. Any thread may call this.

        `paused` is called in the consumer's thread: when what had arrived is handed on, and nothing more will come.
        """
        self.link.run(partial(self._pause, paused))

    def resume(self) -> None:
        """Take commands again, unless they are held for another reason. Any thread may call this."""
        self.link.run(self._resume)

    def hold(self, reason: str) -> None:
        """As `pause`, for a reason of the agent's own. Any thread may call this, also again."""
        self._held.add(reason)
        self.link.call(self._follow)

    def release(self, reason: str) -> None:
        """The reason is gone. Any thread may call this, also again."""
        self._held.discard(reason)
        self.link.call(self._follow)

    def share(self, requests: int) -> None:
        """Hold at most so many of the queue of all hosts; 0: none. Not for a host that left it alone at its start.

        Any thread may call this.
        """
        self._shared.prefetch = requests
        self.link.call(self._shared.refresh)

    def _pause(self, paused: Callable[[], None]) -> None:
        self._held.add(DRAIN)
        self._pausing.append(paused)
        self._take_none(paused)

    def _resume(self) -> None:
        self._held.discard(DRAIN)
        self._follow()

    def _follow(self) -> None:
        if self._held:
            self._take_none(_nobody)
        elif not self._cancelled:
            self._take()

    def _take_none(self, paused: Callable[[], None]) -> None:
        host_queue = self._declaration.host_queue
        waiting = {host_queue, topology.ANY_QUEUE}
        self._shared.pause(partial(self._no_more, waiting, topology.ANY_QUEUE, paused))
        over = partial(self._no_more, waiting, host_queue, paused)
        tag = self._consumers.pop(host_queue, None)
        if tag is None or self._channel is None or not self._channel.is_open:
            over()
        else:
            self._channel.basic_cancel(tag, callback=over)

    def _take(self) -> None:
        """What is not set up yet takes them in the end of its set-up."""
        self._shared.resume(now=self._set_up)
        host_queue = self._declaration.host_queue
        channel = self._channel
        if self._set_up and channel is not None and channel.is_open and host_queue not in self._consumers:
            self._take_from(host_queue, channel)

    def _no_more(self, waiting: set[str], queue: str, paused: Callable[[], None], _ok: object = None) -> None:
        waiting.discard(queue)
        if not waiting and paused in self._pausing:
            self._pausing.remove(paused)
            self._hand_on()
            paused()

    def _opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.basic_qos(
            prefetch_count=PREFETCH, callback=lambda _ok: declare(channel, self._declaration, self._consume)
        )

    def _consume(self) -> None:
        channel = self._channel
        if channel is None:
            return
        self._set_up = True
        queues = [self._declaration.control_queue, *([] if self._held else [self._declaration.host_queue])]
        shared = self._shared.wanted and not self._held
        waiting = {*queues, topology.ANY_QUEUE} if shared else {*queues}
        for queue in queues:
            self._take_from(queue, channel, partial(self._consuming, waiting, queue))
        if shared:
            self._shared.open(partial(self._consuming, waiting, topology.ANY_QUEUE))

    def _take_from(self, queue: str, channel: Channel, taking: Callable[[object], None] | None = None) -> None:
        deliver = partial(self._deliver, control=queue == self._declaration.control_queue)
        self._consumers[queue] = channel.basic_consume(queue, deliver, callback=taking)

    def _consuming(self, waiting: set[str], queue: str, _ok: object) -> None:
        waiting.discard(queue)
        if not waiting:
            self.link.ready()
            self._follow()

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
        channel = self._channel
        for delivery in settled:
            if delivery.shared:
                self._shared.settle(delivery.channel, delivery.tag)
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

    def _cancel(self) -> None:
        self._cancelled = True
        self._shared.stop()
        if self._channel is not None and self._channel.is_open:
            for tag in self._consumers.values():
                self._channel.basic_cancel(tag)

    def _lost(self) -> None:
        self._channel = None
        self._set_up = False
        self._consumers.clear()
        self._arrived.clear()
        self._unsettled.clear()
        self._shared.lost()
        self._told_lost()
        pausing, self._pausing = self._pausing, []
        for paused in pausing:  # a lost connection brings nothing more either
            paused()


def _nobody() -> None:
    """Nobody waits for it."""


def _count(properties: BasicProperties) -> int:
    count = (properties.headers or {}).get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0
