# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A real agent leaves commands in their queue while it cannot take them, and finds by itself what does not agree."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent_process import Stack, running_stack
from raw_client import RawClient, raw_client
from storpool_commands import topology
from storpool_commands.control import Drain, GetDriftReport, Ping
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk

MIB = 1 << 20
MAX_QUEUED = 4
HOST_QUEUE = topology.host_queue("kvm1")


@pytest.fixture(scope="module")
def stack(services: None) -> Iterator[Stack]:
    lanes = {"fast": 1, "max_queued": MAX_QUEUED}
    with running_stack(lanes=lanes, watch={"drift_s": 0.2}) as running:
        yield running


@pytest.fixture
def raw(stack: Stack) -> Iterator[RawClient]:
    with raw_client(stack.amqp_url) as raw:
        yield raw


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_what_is_too_much_waits_with_the_broker_and_is_done_in_the_end(stack: Stack, raw: RawClient) -> None:
    volume = stack.create()
    stack.storpool.sim.fault({"kind": "delay", "seconds": 3}, query="VolumeUpdate")
    slow = raw.ask({"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": 32 * MIB})
    taken = [raw.ask({"command": "ping"}) for _ in range(MAX_QUEUED)]
    until(lambda: stack.agent.events("commands left in the queue"))
    assert stack.management.control(Ping(), host=stack.host).host == "kvm1"
    left = [raw.ask({"command": "ping"}) for _ in range(3)]
    assert stack.management.control(Ping(), host=stack.host).host == "kvm1"
    assert raw.waiting(HOST_QUEUE) == 3
    drained = stack.call(Drain(on=True))
    assert [(one.body_command, one.state) for one in drained.commands] == [
        ("StorpoolResizeCmd", "running"),
        *[("ping", "queued")] * MAX_QUEUED,
    ]
    assert not drained.quiet
    assert raw.reply(slow)["status"] == "success"
    until(lambda: stack.agent.events("commands taken again"))
    assert raw.waiting(HOST_QUEUE) == 3, "it is drained, too"
    stack.call(Drain(on=False))
    assert [raw.reply(one)["status"] for one in (*taken, *left)] == ["success"] * (MAX_QUEUED + 3)


def test_a_journal_that_somebody_has_moved_takes_nothing_until_it_is_back(stack: Stack, raw: RawClient) -> None:
    journal = stack.agent.state_dir / "journal.db"
    elsewhere = journal.rename(journal.with_suffix(".moved"))
    until(lambda: stack.agent.events("journal lost"))
    assert stack.management.control(Ping(), host=stack.host).host == "kvm1"
    asked = raw.ask({"command": "ping"})
    assert stack.management.control(Ping(), host=stack.host).host == "kvm1"
    assert (raw.waiting(HOST_QUEUE), raw.replies(asked)) == (1, [])
    elsewhere.rename(journal)
    assert raw.reply(asked)["status"] == "success"
    assert stack.agent.events("journal is there again")


def test_what_does_not_agree_is_found_told_and_mended_by_what_is_said(stack: Stack) -> None:
    volume = stack.create()
    news: list[dict[str, Any]] = []
    with stack.management.events("kvm1.drift", lambda event: news.append(event.data)):
        stack.call(ConnectPhysicalDisk(volume=volume))
        until(lambda: any(one["drifts"] for one in news))
        ((found),) = next(one["drifts"] for one in reversed(news) if one["drifts"])
        assert (found["kind"], found["globalId"]) == ("not-used", volume[1:])
        assert found["repair"] == f"storpool-ctl --host kvm1 disconnect-physical-disk --volume {volume}"
        (reported,) = stack.call(GetDriftReport()).drifts
        assert reported.first_seen.isoformat() == found["firstSeen"].replace("Z", "+00:00")
        stack.call(DisconnectPhysicalDisk(volume=volume))
        until(lambda: news[-1]["drifts"] == [])
    assert stack.agent.events("drift found")[-1]["repair"] == found["repair"]
    assert stack.agent.events("drift gone")[-1]["volume"] == volume[1:]
