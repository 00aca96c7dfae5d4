# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Events of hosts, through a real broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from integration.client.answers import DISK, connected
from integration.client.happenings import publish
from integration.client.stand_in import StandInAgent
from rabbit import close_all_connections
from storpool_commands import topology
from storpool_commands.client import ManagementClient
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.envelope import Event


def test_events_come_by_their_routing_key(url: str, host: str, client: ManagementClient) -> None:
    seen: SimpleQueue[Event] = SimpleQueue()
    with client.events(f"{host}.attachment.*", seen.put), _channel(url) as channel:
        publish(channel, host, "attachment.detached")
        publish(channel, f"other-{host}", "attachment.detached", routable=False)
        publish(channel, host, "attachment.attached")
        types = [seen.get(timeout=10).type for _ in range(2)]
    assert types == ["attachment.detached", "attachment.attached"]
    assert seen.empty()


def test_events_go_on_after_the_broker_closed_the_connection(url: str, host: str, client: ManagementClient) -> None:
    seen: SimpleQueue[Event] = SimpleQueue()
    with client.events(f"{host}.#", seen.put):
        with _channel(url) as channel:
            publish(channel, host, "first")
        seen.get(timeout=10)
        close_all_connections(url)
        with _channel(url) as channel:
            publish(channel, host, "second")
        assert seen.get(timeout=10).type == "second"


def test_a_callback_that_raises_or_cannot_be_called_is_logged_and_the_next_event_comes(
    url: str, host: str, client: ManagementClient, caplog: pytest.LogCaptureFixture
) -> None:
    seen: SimpleQueue[Event] = SimpleQueue()

    def callback(event: Event) -> None:
        if event.type == "bad":
            raise RuntimeError("a bug of the caller")
        seen.put(event)

    with client.events(f"{host}.#", callback), _channel(url) as channel:
        publish(channel, host, "bad")
        channel.basic_publish(topology.EVENTS, topology.event_key(host, "none"), b"not an event")
        publish(channel, host, "good")
        assert seen.get(timeout=10).type == "good"
    assert "a bug of the caller" in caplog.text
    assert "an event cannot be read" in caplog.text


def test_a_callback_may_call(url: str, host: str, client: ManagementClient) -> None:
    results: SimpleQueue[object] = SimpleQueue()

    def callback(_: Event) -> None:
        results.put(client.call(ConnectPhysicalDisk(volume="~a.b.c"), host=host))

    with StandInAgent(url, host, connected), client.events(f"{host}.#", callback), _channel(url) as channel:
        publish(channel, host, "drift")
        assert results.get(timeout=10) == DISK


@contextmanager
def _channel(url: str) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
