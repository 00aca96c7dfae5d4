# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Exchanges, queues and bindings, declared over AMQP by a user who may."""

# pyright: reportUnknownMemberType=false
# Reason: the decorated methods of pika have no types.

from collections.abc import Callable, Iterator, Sequence

from pika import BlockingConnection
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from storpool_commands import topology
from storpool_commands.client.endpoint import Endpoint
from storpool_commands.client.provisioning.change import Change, ProvisioningFailed
from storpool_commands.client.reasons import reason

NOT_FOUND, DIFFERS = 404, 406

Declare = Callable[[BlockingChannel], object]


def provision_objects(endpoints: Sequence[Endpoint], hosts: Sequence[str]) -> Iterator[Change]:
    """Make what is missing of what is there once, and of what each host has. Raises ProvisioningFailed.

    What is there with other arguments than these is left alone, and an error.
    """
    with _connect(endpoints) as connection:
        for name, kind in topology.EXCHANGES.items():
            yield _exchange(connection, name, kind)
        for queue in topology.queues_of_all():
            yield _queue(connection, queue)
        for host in hosts:
            for queue in topology.queues_of_host(host):
                yield _queue(connection, queue)


def _connect(endpoints: Sequence[Endpoint]) -> BlockingConnection:
    """To the first that answers."""
    troubles: list[str] = []
    for endpoint in endpoints:
        try:
            return BlockingConnection(endpoint.parameters())
        except (AMQPError, OSError) as error:
            troubles.append(f"{endpoint}: {reason(error)}")
    raise ProvisioningFailed("; ".join(troubles))


def _exchange(connection: BlockingConnection, name: str, kind: str) -> Change:
    what = f"exchange {name}"
    there = _is_there(connection, lambda channel: channel.exchange_declare(name, kind, passive=True), what)
    _on_channel(connection, lambda channel: channel.exchange_declare(name, kind, durable=True), what)
    return Change(what, "unchanged" if there else "made")


def _queue(connection: BlockingConnection, queue: topology.Queue) -> Change:
    """The binding is made again in any case, which changes nothing where it is there."""

    def declare(channel: BlockingChannel) -> None:
        channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        channel.queue_bind(queue.name, queue.exchange, queue.key)

    what = f"queue {queue.name}"
    there = _is_there(connection, lambda channel: channel.queue_declare(queue.name, passive=True), what)
    _on_channel(connection, declare, what)
    return Change(what, "unchanged" if there else "made")


def _is_there(connection: BlockingConnection, look: Declare, what: str) -> bool:
    try:
        _on_channel(connection, look, what)
    except ProvisioningFailed as error:
        if isinstance(error.__cause__, ChannelClosedByBroker) and error.__cause__.reply_code == NOT_FOUND:
            return False
        raise
    return True


def _on_channel(connection: BlockingConnection, declare: Declare, what: str) -> None:
    """On one of its own: the broker closes the channel of what it refuses."""
    channel = connection.channel()
    try:
        declare(channel)
    except ChannelClosedByBroker as error:
        advice = (
            "; it is left as it is: move what is in it, delete it, try again" if error.reply_code == DIFFERS else ""
        )
        raise ProvisioningFailed(f"{what}: {reason(error)}{advice}") from error
    except AMQPError as error:
        raise ProvisioningFailed(f"{what}: {reason(error)}") from error
    channel.close()
