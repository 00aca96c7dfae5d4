# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Exchanges, queues and bindings, declared over AMQP by a user who may."""

# pyright: reportUnknownMemberType=false
# Reason: the decorated methods of pika have no types.

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pika import BlockingConnection
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from storpool_commands import topology
from storpool_commands.client.endpoint import Endpoint
from storpool_commands.client.provisioning.change import Change, ProvisioningFailed
from storpool_commands.client.reasons import Login, reason

NOT_FOUND, DIFFERS = 404, 406

Declare = Callable[[BlockingChannel], object]


def provision_objects(endpoints: Sequence[Endpoint], hosts: Sequence[str]) -> Iterator[Change]:
    """Make what is missing of what is there once, and of what each host has. Raises ProvisioningFailed.

    What is there with other arguments than these is left alone, and an error.
    """
    connection, login = _connect(endpoints)
    with connection:
        session = _Session(connection, login)
        for name, kind in topology.EXCHANGES.items():
            yield _exchange(session, name, kind)
        for queue in topology.queues_of_all():
            yield _queue(session, queue)
        for host in hosts:
            for queue in topology.queues_of_host(host):
                yield _queue(session, queue)


@dataclass(frozen=True)
class _Session:
    """A connection, and as whom it was made."""

    connection: BlockingConnection
    login: Login


def _connect(endpoints: Sequence[Endpoint]) -> tuple[BlockingConnection, Login]:
    """To the first that answers."""
    troubles: list[str] = []
    for endpoint in endpoints:
        try:
            return BlockingConnection(endpoint.parameters()), endpoint.account
        except (AMQPError, OSError) as error:
            troubles.append(f"{endpoint}: {reason(error, endpoint.account)}")
    raise ProvisioningFailed("; ".join(troubles))


def _exchange(session: _Session, name: str, kind: str) -> Change:
    what = f"exchange {name}"
    there = _is_there(session, lambda channel: channel.exchange_declare(name, kind, passive=True), what)
    _on_channel(session, lambda channel: channel.exchange_declare(name, kind, durable=True), what)
    return Change(what, "unchanged" if there else "made")


def _queue(session: _Session, queue: topology.Queue) -> Change:
    """The binding is made again in any case, which changes nothing where it is there."""

    def declare(channel: BlockingChannel) -> None:
        channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        channel.queue_bind(queue.name, queue.exchange, queue.key)

    what = f"queue {queue.name}"
    there = _is_there(session, lambda channel: channel.queue_declare(queue.name, passive=True), what)
    _on_channel(session, declare, what)
    return Change(what, "unchanged" if there else "made")


def _is_there(session: _Session, look: Declare, what: str) -> bool:
    try:
        _on_channel(session, look, what)
    except ProvisioningFailed as error:
        if isinstance(error.__cause__, ChannelClosedByBroker) and error.__cause__.reply_code == NOT_FOUND:
            return False
        raise
    return True


def _on_channel(session: _Session, declare: Declare, what: str) -> None:
    """On one of its own: the broker closes the channel of what it refuses."""
    channel = session.connection.channel()
    try:
        declare(channel)
    except ChannelClosedByBroker as error:
        advice = (
            "; it is left as it is: move what is in it, delete it, try again" if error.reply_code == DIFFERS else ""
        )
        raise ProvisioningFailed(f"{what}: {reason(error, session.login)}{advice}") from error
    except AMQPError as error:
        raise ProvisioningFailed(f"{what}: {reason(error, session.login)}") from error
    channel.close()
