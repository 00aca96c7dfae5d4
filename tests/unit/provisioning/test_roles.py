# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What each kind of user may. That the broker reads the expressions likewise, tests on a real one show."""

import re
from uuid import uuid4

import pytest

from storpool_commands import topology
from storpool_commands.client.provisioning import roles
from storpool_commands.client.provisioning.roles import Role

HEX = uuid4().hex
OBJECTS = (
    *topology.EXCHANGES,
    "",
    "amq.default",
    "amq.topic",
    "storpool.any",
    "storpool.dead-letters",
    "storpool.host.kvm1",
    "storpool.host.kvm2",
    "storpool.host.kvm10",
    "storpool.control.kvm1",
    "storpool.control.kvm2",
    "storpool.replies.cloud",
    f"storpool.replies.cloud-{HEX}.{HEX[:8]}",
    "storpool.replies.cloud-2",
    "storpool.replies.other",
    f"storpool.events.{HEX}",
)
KEYS = (
    "kvm1.cloud",
    "kvm2.cloud",
    "kvm10.cloud",
    "x.kvm1.y",
    "*.cloud",
    f"*.cloud-{HEX}",
    "*.other",
    "#",
    "*.#",
    "kvm1.#",
)


def allowed(pattern: str, names: tuple[str, ...] = OBJECTS) -> set[str]:
    """As RabbitMQ does it: wherever it fits."""
    return {name for name in names if re.search(pattern, name)}


def topics(role: Role, exchange: str) -> tuple[set[str], set[str]]:
    (one,) = [topic for topic in role.topics if topic.exchange == exchange]
    return allowed(one.write, KEYS), allowed(one.read, KEYS)


def test_a_host_takes_from_its_own_queues_and_speaks_for_itself() -> None:
    role = roles.host("kvm1")
    assert allowed(role.configure) == {""}
    assert allowed(role.write) == {topology.REPLIES, topology.EVENTS, topology.DEAD}
    assert allowed(role.read) == {"storpool.any", "storpool.host.kvm1", "storpool.control.kvm1"}
    for exchange in (topology.REPLIES, topology.EVENTS):
        assert topics(role, exchange) == ({"kvm1.cloud", "kvm1.#"}, set())


def test_a_publisher_commands_and_hears_replies_to_itself_alone() -> None:
    role = roles.publisher(["cloud"])
    queues = {"storpool.replies.cloud", f"storpool.replies.cloud-{HEX}.{HEX[:8]}", f"storpool.events.{HEX}"}
    assert allowed(role.configure) == queues
    assert allowed(role.write) == queues | {topology.COMMANDS, topology.CONTROL}
    assert allowed(role.read) == queues | {topology.REPLIES, topology.EVENTS}
    assert topics(role, topology.REPLIES) == (set(), {"*.cloud", f"*.cloud-{HEX}"})
    assert topics(role, topology.EVENTS) == (set(), set(KEYS))


def test_a_reader_hears_events_and_can_ask_for_nothing() -> None:
    role = roles.reader(["cloud"], [])
    queues = {"storpool.replies.cloud", f"storpool.replies.cloud-{HEX}.{HEX[:8]}", f"storpool.events.{HEX}"}
    assert (allowed(role.configure), allowed(role.write)) == (queues, queues)
    assert allowed(role.read) == queues | {topology.REPLIES, topology.EVENTS}
    assert topics(role, topology.EVENTS) == (set(), set(KEYS))
    assert topics(role, topology.REPLIES) == (set(), {"*.cloud", f"*.cloud-{HEX}"})


def test_a_reader_may_be_one_of_some_hosts() -> None:
    role = roles.reader(["cloud"], ["kvm1", "kvm2"])
    assert topics(role, topology.EVENTS) == (set(), {"kvm1.cloud", "kvm2.cloud", "kvm1.#"})


def test_the_administrator_has_what_is_of_this_project() -> None:
    role = roles.administrator()
    assert {
        allowed(pattern) == set(OBJECTS) - {"", "amq.default", "amq.topic"} for pattern in (role.write, role.read)
    } == {True}
    assert topics(role, topology.REPLIES)[0] == set()


@pytest.mark.parametrize(
    "role", [roles.host("h"), roles.publisher(["p"]), roles.reader(["r"], []), roles.administrator()]
)
def test_no_topic_exchange_is_left_open(role: Role) -> None:
    assert {topic.exchange for topic in role.topics} == {topology.REPLIES, topology.EVENTS}
