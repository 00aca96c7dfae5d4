# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Connections that break, brokers that refuse: a call ends with its reply, or says what is known."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event
from time import monotonic, sleep
from uuid import uuid4

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from integration.client.answers import DISK, connected, success
from integration.client.proxy import Proxy
from integration.client.stand_in import Request, StandInAgent
from rabbit import close_all_connections, new_vhost
from storpool_commands import topology
from storpool_commands.client import BrokerUnreachable, ManagementClient, NoReply, RequestRefused
from storpool_commands.control import Ping
from storpool_commands.disks import ConnectPhysicalDisk

COMMAND = ConnectPhysicalDisk(volume="~a.b.c")


def test_a_request_whose_confirm_was_lost_is_sent_again_with_its_id(url: str, host: str) -> None:
    go_on = Event()
    with (
        Proxy() as proxy,
        StandInAgent(url, host, _when(go_on)) as agent,
        ManagementClient(proxy.through(url), reply_to=f"word-{host}") as client,
        ThreadPoolExecutor(1) as pool,
    ):
        proxy.mute.set()
        call = pool.submit(client.call, COMMAND, host=host)
        agent.wait_for(1)
        proxy.cut()
        go_on.set()
        assert call.result(20) == DISK
        agent.wait_for(2)
    assert agent.requests[0] == agent.requests[1]


def test_a_confirmed_request_is_not_sent_again_while_its_reply_queue_stays(url: str, host: str) -> None:
    go_on = Event()
    with (
        Proxy() as proxy,
        StandInAgent(url, host, _when(go_on)) as agent,
        ManagementClient(proxy.through(url), reply_to=f"word-{host}") as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(client.call, COMMAND, host=host)
        agent.wait_for(1)
        _wait_until(lambda: client._calls.all()[0].confirmed)
        proxy.cut()
        go_on.set()
        assert call.result(20) == DISK
        assert len(agent.requests) == 1


def test_a_reply_that_was_lost_with_its_queue_is_asked_for_again(url: str, host: str) -> None:
    def answer(request: Request) -> Iterable[bytes]:
        return [success(request)] if len(agent.requests) > 1 else []

    with (
        Proxy() as proxy,
        StandInAgent(url, host, answer) as agent,
        ManagementClient(proxy.through(url)) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(client.call, COMMAND, host=host)
        agent.wait_for(1)
        proxy.cut()
        assert call.result(20) == DISK
    assert len(set(agent.ids)) == 1


def test_64_threads_come_through_while_the_broker_closes_all_connections(url: str, host: str) -> None:
    with (
        StandInAgent(url, host, connected) as agent,
        ManagementClient(url) as client,
        ThreadPoolExecutor(64) as pool,
    ):
        calls = [pool.submit(client.call, COMMAND, host=host) for _ in range(3000)]
        for count in (500, 1500):
            agent.wait_for(count)
            close_all_connections(url)
        assert all(call.result(60) == DISK for call in calls)
    assert len(set(agent.ids)) == 3000


def test_a_successor_gets_the_replies_of_a_named_queue(url: str, host: str) -> None:
    word, request_id, go_on = f"word-{host}", uuid4(), Event()
    with StandInAgent(url, host, _when(go_on)):
        with ManagementClient(url, reply_to=word) as first, pytest.raises(NoReply):
            first.call(COMMAND, host=host, request_id=request_id, timeout_s=0.3)
        go_on.set()
        with ManagementClient(url, reply_to=word) as second:
            assert second.wait(request_id, timeout_s=10).result == DISK


def test_a_reply_word_belongs_to_one_process(url: str, host: str) -> None:
    word = f"word-{host}"
    with (
        ManagementClient(url, reply_to=word),
        pytest.raises(BrokerUnreachable, match="exclusive"),
    ):
        ManagementClient(url, reply_to=word).open(timeout_s=2)


def test_a_reply_queue_that_somebody_deletes_is_made_again(url: str, host: str) -> None:
    word = f"word-{host}"
    with StandInAgent(url, host, connected), ManagementClient(url, reply_to=word) as client:
        with _channel(url) as channel:
            channel.queue_delete(f"storpool.replies.{word}")
        assert client.call(COMMAND, host=host, timeout_s=20) == DISK


def test_without_a_connection_nothing_is_sent(url: str, host: str) -> None:
    with StandInAgent(url, host, connected) as agent, ExitStack() as stack:
        with Proxy() as proxy:
            client = stack.enter_context(ManagementClient(proxy.through(url)))
        _wait_until(lambda: not client.connected)
        with pytest.raises(BrokerUnreachable, match="not sent"):
            client.call(COMMAND, host=host, timeout_s=0.5)
    assert agent.requests == []


def test_a_full_queue_is_tried_again(url: str, host: str) -> None:
    queue = f"{host}-small"
    with _channel(url) as channel, ManagementClient(url) as client, ThreadPoolExecutor(2) as pool:
        limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare(queue, durable=True, arguments=limits)
        channel.queue_bind(queue, topology.COMMANDS, topology.host_key(host))
        calls = [pool.submit(client.call, COMMAND, host=host, timeout_s=20) for _ in range(2)]
        for _ in calls:
            _reply_to_next(channel, queue)
        assert [call.result() for call in calls] == [DISK, DISK]


def test_a_request_that_the_broker_refuses_fails_soon_and_alone(host: str) -> None:
    with new_vhost() as url, StandInAgent(url, host, connected, control=False):
        with _channel(url) as channel:
            channel.exchange_declare(topology.CONTROL, "direct", durable=True, internal=True)
        with ManagementClient(url, declare=False) as client, ThreadPoolExecutor(8) as pool:
            started = monotonic()
            refused = pool.submit(client.control, Ping(), host=host)
            calls = [pool.submit(client.call, COMMAND, host=host) for _ in range(50)]
            with pytest.raises(RequestRefused, match="ACCESS_REFUSED"):
                refused.result()
            assert monotonic() - started < 10
            assert all(call.result(20) == DISK for call in calls)


def test_a_missing_exchange_is_named(host: str) -> None:
    with new_vhost() as url, pytest.raises(BrokerUnreachable, match=r"no exchange 'storpool.commands'"):
        ManagementClient(url, declare=False).open(timeout_s=60)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        pytest.param("guest:canary-4711@127.0.0.1:5672/", "refused the login", id="password"),
        pytest.param("guest:guest@127.0.0.1:5672/nowhere", "has no vhost nowhere: the path of the URL", id="vhost"),
    ],
)
def test_a_hopeless_login_is_told_at_once(wrong: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    started = monotonic()
    with pytest.raises(BrokerUnreachable, match=why):
        ManagementClient(f"amqp://{wrong}").open()
    assert monotonic() - started < 5
    assert "canary-4711" not in caplog.text


def _when(event: Event) -> Callable[[Request], Iterable[bytes]]:
    def answer(request: Request) -> Iterable[bytes]:
        assert event.wait(20)
        return connected(request)

    return answer


@contextmanager
def _channel(url: str) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        yield connection.channel()


def _wait_until(condition: Callable[[], bool]) -> None:
    give_up_at = monotonic() + 20
    while not condition():
        assert monotonic() < give_up_at
        sleep(0.01)


def _reply_to_next(channel: BlockingChannel, queue: str) -> None:
    got: list[pika.BasicProperties] = []

    def look() -> bool:
        _, properties, _ = channel.basic_get(queue, auto_ack=True)
        got.extend([properties] if properties else [])
        return bool(got)

    _wait_until(look)
    host = queue.removesuffix("-small")
    reply = success({"id": got[0].message_id}).replace(b'"host":"kvm1"', f'"host":"{host}"'.encode())
    channel.basic_publish(topology.REPLIES, topology.reply_key(host, got[0].reply_to or ""), reply)
