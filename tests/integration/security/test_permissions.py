# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the broker refuses to users that storpool-ctl has made: one host's login is no way to any other host."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event as Flag
from uuid import uuid4

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosed

from integration.security.provisioned import Provisioned
from storpool_commands import topology
from storpool_commands.client import NoReply
from storpool_commands.client.provisioning.change import ProvisioningFailed
from storpool_commands.client.provisioning.objects import provision_objects
from storpool_commands.control import Ping, Pong
from storpool_commands.envelope import Event, Success

Attempt = Callable[[BlockingChannel], object]

WAIT_S = 10.0
NOT_ALLOWED, FORGED = 403, 406
HEX = uuid4().hex


def publish(exchange: str, key: str, **properties: str) -> Attempt:
    sent = pika.BasicProperties(**properties)  # type: ignore[arg-type]
    return lambda channel: channel.basic_publish(exchange, key, b"{}", sent)


def consume(queue: str) -> Attempt:
    def attempt(channel: BlockingChannel) -> None:
        channel.basic_consume(queue, lambda *_: None)

    return attempt


def get(queue: str) -> Attempt:
    return lambda channel: channel.basic_get(queue)


def purge(queue: str) -> Attempt:
    return lambda channel: channel.queue_purge(queue)


def delete(queue: str) -> Attempt:
    return lambda channel: channel.queue_delete(queue)


def declare(queue: str) -> Attempt:
    return lambda channel: channel.queue_declare(queue, durable=True)


def bind(queue: str, exchange: str, key: str) -> Attempt:
    """The queue is made, if it may be."""

    def attempt(channel: BlockingChannel) -> None:
        if queue.startswith((topology.REPLIES, topology.EVENTS)):
            channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, exchange, key)

    return attempt


def refused(provisioned: Provisioned, login: str, attempt: Attempt) -> int | None:
    """The code that the broker closes the channel with; None: it lets it pass."""
    with provisioned.channel(login) as channel:
        try:
            attempt(channel)
            channel.connection.process_data_events(time_limit=0)
            channel.basic_qos(prefetch_count=1)  # an answer: what was refused is known by then
        except ChannelClosedByBroker as error:
            return error.reply_code
    return None


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(consume("storpool.host.kvm2"), id="consume another host's queue"),
        pytest.param(get("storpool.host.kvm2"), id="read another host's queue"),
        pytest.param(purge("storpool.host.kvm2"), id="empty another host's queue"),
        pytest.param(delete("storpool.host.kvm2"), id="delete another host's queue"),
        pytest.param(consume("storpool.control.kvm2"), id="consume another host's control queue"),
        pytest.param(get("storpool.dead-letters"), id="read the dead letters"),
        pytest.param(delete("storpool.host.kvm1"), id="delete its own queue"),
        pytest.param(declare("storpool.host.kvm3"), id="declare a queue"),
        pytest.param(declare(f"storpool.replies.cloud-{HEX}.{HEX[:8]}"), id="declare a reply queue"),
        pytest.param(
            bind("storpool.host.kvm1", topology.COMMANDS, "host.kvm2"), id="bind its queue to another host's key"
        ),
        pytest.param(bind("storpool.host.kvm1", topology.REPLIES, "#"), id="bind its queue to all replies"),
        pytest.param(bind("storpool.host.kvm1", topology.EVENTS, "#"), id="bind its queue to all events"),
        pytest.param(publish(topology.COMMANDS, "host.kvm2"), id="command another host"),
        pytest.param(publish(topology.COMMANDS, "host.kvm1"), id="command itself"),
        pytest.param(publish(topology.COMMANDS, "any"), id="command any host"),
        pytest.param(publish(topology.CONTROL, "host.kvm2"), id="control another host"),
        pytest.param(publish("", "storpool.host.kvm2"), id="command by the default exchange"),
        pytest.param(publish("", f"storpool.replies.cloud-{HEX}.{HEX[:8]}"), id="reply by the default exchange"),
        pytest.param(publish(topology.REPLIES, "kvm2.cloud"), id="forge another host's reply"),
        pytest.param(publish(topology.REPLIES, "kvm10.cloud"), id="forge that of a host whose name begins alike"),
        pytest.param(publish(topology.EVENTS, "kvm2.attachment.detached"), id="forge another host's event"),
    ],
)
def test_a_host_is_refused_what_is_not_its_own(provisioned: Provisioned, attempt: Attempt) -> None:
    assert refused(provisioned, "host-kvm1", attempt) == NOT_ALLOWED


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(publish(topology.REPLIES, "kvm1.cloud", user_id="host-kvm1"), id="reply"),
        pytest.param(publish(topology.EVENTS, "kvm1.attachment.detached", user_id="host-kvm1"), id="publish an event"),
        pytest.param(publish(topology.DEAD, "", user_id="host-kvm1"), id="dead-letter"),
        pytest.param(consume("storpool.host.kvm1"), id="read its queue"),
        pytest.param(get("storpool.any"), id="read the queue of all hosts"),
        pytest.param(get("storpool.control.kvm1"), id="read its control queue"),
    ],
)
def test_a_host_may_do_its_work(provisioned: Provisioned, attempt: Attempt) -> None:
    assert refused(provisioned, "host-kvm1", attempt) is None


@pytest.mark.parametrize(
    ("login", "attempt"),
    [
        ("host-kvm1", publish(topology.REPLIES, "kvm1.cloud", user_id="host-kvm2")),
        ("host-kvm1", publish(topology.EVENTS, "kvm1.heartbeat", user_id="cloud")),
        ("backup", publish(topology.COMMANDS, "host.kvm1", user_id="cloud")),
    ],
)
def test_nobody_publishes_under_the_name_of_another(provisioned: Provisioned, login: str, attempt: Attempt) -> None:
    assert refused(provisioned, login, attempt) == FORGED


@pytest.mark.parametrize(
    ("login", "attempt"),
    [
        pytest.param(
            "backup",
            bind(f"storpool.replies.backup-{HEX}.{HEX[:8]}", topology.REPLIES, "*.cloud"),
            id="hear another's replies",
        ),
        pytest.param(
            "backup", bind(f"storpool.replies.backup-{HEX}.{HEX[:8]}", topology.REPLIES, "#"), id="hear all replies"
        ),
        pytest.param("backup", declare("storpool.replies.cloud"), id="take another's reply queue"),
        pytest.param("backup", get("storpool.host.kvm1"), id="read a host's queue"),
        pytest.param("backup", purge("storpool.host.kvm1"), id="empty a host's queue"),
        pytest.param("backup", publish(topology.REPLIES, "kvm1.cloud"), id="forge a reply"),
        pytest.param("backup", publish(topology.EVENTS, "kvm1.heartbeat"), id="forge an event"),
        pytest.param("backup", publish(topology.DEAD, ""), id="forge a dead letter"),
        pytest.param("backup", get("storpool.dead-letters"), id="read the dead letters"),
        pytest.param("monitor", publish(topology.COMMANDS, "host.kvm1"), id="command as a reader"),
        pytest.param("monitor", publish(topology.CONTROL, "host.kvm1"), id="control as a reader"),
        pytest.param("monitor", bind(f"storpool.events.{HEX}", topology.REPLIES, "#"), id="hear replies as a reader"),
        pytest.param("provisioner", publish(topology.EVENTS, "kvm1.heartbeat"), id="forge an event as administrator"),
    ],
)
def test_publishers_and_readers_are_refused_what_is_not_theirs(
    provisioned: Provisioned, login: str, attempt: Attempt
) -> None:
    assert refused(provisioned, login, attempt) == NOT_ALLOWED


@pytest.mark.parametrize(
    ("login", "attempt"),
    [
        ("cloud", bind("storpool.replies.cloud", topology.REPLIES, "*.cloud")),
        ("cloud", bind(f"storpool.replies.cloud-{HEX}.{HEX[:8]}", topology.REPLIES, f"*.cloud-{HEX}")),
        ("cloud", bind(f"storpool.events.{HEX}", topology.EVENTS, "kvm1.#")),
        ("monitor", bind(f"storpool.events.{HEX}", topology.EVENTS, "#")),
        ("provisioner", get("storpool.dead-letters")),
    ],
)
def test_and_may_do_what_is(provisioned: Provisioned, login: str, attempt: Attempt) -> None:
    assert refused(provisioned, login, attempt) is None


def test_provisioning_again_changes_nothing(provisioned: Provisioned) -> None:
    said = provisioned.objects("kvm1", "kvm2") + provisioned.users("host", "kvm1", "kvm2")
    assert {line.split()[0] for line in said.splitlines()} == {"unchanged"}


def test_a_queue_that_is_otherwise_is_left_alone_and_named(provisioned: Provisioned) -> None:
    with provisioned.channel("provisioner") as channel:
        channel.queue_declare("storpool.host.kvm9", durable=True)
    with pytest.raises(ProvisioningFailed, match=r"queue storpool.host.kvm9: .*inequivalent arg.*it is left as it is"):
        list(provision_objects(provisioned.endpoints("provisioner"), ["kvm9"]))
    with provisioned.channel("provisioner") as channel:
        channel.queue_declare("storpool.host.kvm9", durable=True)
        channel.queue_delete("storpool.host.kvm9")


def test_who_may_not_make_queues_is_told_so(provisioned: Provisioned) -> None:
    with pytest.raises(ProvisioningFailed, match=r"exchange storpool.commands: .*ACCESS_REFUSED"):
        list(provision_objects(provisioned.endpoints("monitor"), ["kvm9"]))


def test_what_was_changed_by_hand_is_told_and_set_right(provisioned: Provisioned) -> None:
    provisioned.broker.ctl("set_permissions", "--vhost", "storpool", "monitor", ".*", ".*", ".*")
    said = provisioned.users("reader", "monitor").splitlines()
    assert [line for line in said if not line.startswith("unchanged")] == [
        "changed    permissions of monitor in storpool"
    ]


@pytest.fixture
def forger(provisioned: Provisioned) -> Iterator[BlockingChannel]:
    """The login of kvm1, in hands that know what is going on at kvm2."""
    with provisioned.channel("host-kvm1") as channel:
        yield channel


def pong(request_id: object, host: str) -> bytes:
    result = Pong(host=host, version="forged", time=datetime.now(UTC))
    return (
        Success.model_validate({"id": request_id, "host": host, "result": result, "tookMs": 1.0}, strict=False)
        .model_dump_json(by_alias=True)
        .encode()
    )


@pytest.mark.parametrize("claims", ["kvm1", "kvm2"])
def test_a_forged_reply_under_a_key_of_its_own_is_passed_over(
    provisioned: Provisioned, forger: BlockingChannel, claims: str
) -> None:
    """The key is this host's own; and RabbitMQ before 4.1 lets CC pass its topic permissions."""
    request_id, word = uuid4(), f"cloud-{uuid4().hex}"
    with provisioned.management("cloud", reply_to=word) as client, ThreadPoolExecutor(1) as pool:
        called = pool.submit(client.call, Ping(), host="kvm2", request_id=request_id, timeout_s=5)
        body = pong(request_id, claims)
        for properties in (pika.BasicProperties(), pika.BasicProperties(headers={"CC": [f"kvm2.{word}"]})):
            forger.basic_publish(topology.REPLIES, f"kvm1.{word}", body, properties)
        with pytest.raises(NoReply):
            called.result()
    provisioned.broker.ctl("purge_queue", "--vhost", "storpool", "storpool.host.kvm2")


def test_a_forged_event_is_passed_over(provisioned: Provisioned, forger: BlockingChannel) -> None:
    heard: list[Event] = []
    last = Flag()

    def hear(event: Event) -> None:
        heard.append(event)
        if event.id == "true":
            last.set()

    with provisioned.management("monitor") as client, client.events("#", hear):
        give_up = 100
        while not last.wait(0.1):  # until the subscription is there, an event reaches nobody
            for claims, name in (("kvm2", "forged"), ("kvm1", "true")):
                event = Event(
                    id=name,
                    source=f"/hosts/{claims}",
                    type="com.storpool.agent.heartbeat",
                    time=datetime.now(UTC),
                    data={},
                )
                forger.basic_publish(topology.EVENTS, "kvm1.heartbeat", event.model_dump_json(by_alias=True).encode())
            give_up -= 1
            assert give_up
    assert {event.id for event in heard} == {"true"}


def test_a_user_that_is_withdrawn_is_thrown_out(provisioned: Provisioned) -> None:
    provisioned.users("reader", "leaver")
    with pytest.raises(ConnectionClosed, match="leaver"):
        withdraw_a_user_who_is_connected(provisioned)


def withdraw_a_user_who_is_connected(provisioned: Provisioned) -> None:
    with provisioned.channel("leaver") as channel:
        provisioned.broker.ctl("delete_user", "leaver")
        channel.connection.process_data_events(time_limit=WAIT_S)
