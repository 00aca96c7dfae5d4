# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Declaring, or only looking at, what the agent needs on the broker."""

from collections.abc import Callable
from dataclasses import dataclass

from pika.channel import Channel

from storpool_commands import topology


@dataclass(frozen=True)
class Declaration:
    """What is needed for one host."""

    host: str
    passive: bool
    """Only look: in production the objects and permissions are provisioned."""
    shared: bool = True
    """The queue of all hosts, too."""

    @property
    def host_queue(self) -> str:
        return topology.host_queue(self.host)

    @property
    def control_queue(self) -> str:
        return topology.control_queue(self.host)


Then = Callable[[object], None]
Step = Callable[[Then], None]


def declare(channel: Channel, wanted: Declaration, done: Callable[[], None]) -> None:
    """One object after the other, then `done`. What the broker refuses closes the channel, with its reason."""
    steps = iter(_look(channel, wanted) if wanted.passive else _make(channel, wanted))

    def following(_ok: object = None) -> None:
        step = next(steps, None)
        if step is None:
            done()
        else:
            step(following)

    following()


def _look(channel: Channel, wanted: Declaration) -> list[Step]:
    def queue(name: str) -> Step:
        return lambda then: channel.queue_declare(name, passive=True, callback=then)

    shared = [queue(topology.ANY_QUEUE)] if wanted.shared else []
    return [queue(wanted.host_queue), queue(wanted.control_queue), *shared]


def _make(channel: Channel, wanted: Declaration) -> list[Step]:
    def exchange(name: str, kind: str) -> Step:
        return lambda then: channel.exchange_declare(name, kind, durable=True, callback=then)

    def queue(wanted: topology.Queue) -> Step:
        return lambda then: channel.queue_declare(wanted.name, durable=True, arguments=wanted.arguments, callback=then)

    def bind(wanted: topology.Queue) -> Step:
        return lambda then: channel.queue_bind(wanted.name, wanted.exchange, wanted.key, callback=then)

    queues = [*topology.queues_of_host(wanted.host), *topology.queues_of_all(shared=wanted.shared)]
    return [
        *(exchange(name, kind) for name, kind in topology.EXCHANGES.items()),
        *(step(one) for one in queues for step in (queue, bind)),
    ]
