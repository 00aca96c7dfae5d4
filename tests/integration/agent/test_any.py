# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The queue of all hosts: one of two agents takes a request; when that one goes, the other finishes it, once."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosed

from agent_process import AgentProcess, Stack, running_stack
from integration.agent.refusals import refused
from rabbit import close_all_connections
from raw_client import RawClient, raw_client
from storpool_agent.job import MAX_ATTEMPTS
from storpool_commands import topology
from storpool_commands.errors import ErrorCode
from storpool_commands.labels import OPERATION
from storpool_commands.volumes import CreateVolume, DeleteVolume

MIB = 1 << 20
SLOW_S = 1.5
LONGER_THAN_A_RECONNECT_S = 10.0
CREATE = {"command": "createVolume", "sizeBytes": MIB, "template": "dev"}
CTL = [sys.executable, "-c", "from storpool_commands.client.cli import main; main()"]
ONE_WORKER = {"fast": 1, "any": 4}


@dataclass
class Pair:
    """Two agents, kvm1 and kvm2, that compete."""

    stack: Stack
    raw: RawClient
    agents: dict[str, AgentProcess]

    @property
    def first(self) -> AgentProcess:
        return self.agents["kvm1"]

    @property
    def second(self) -> AgentProcess:
        return self.agents["kvm2"]

    def made(self, request_id: str) -> list[str]:
        """The volumes of a request."""
        listed = self.stack.storpool.call("GET", "VolumesList")
        return [f"~{one['globalId']}" for one in listed if one["tags"].get(OPERATION) == request_id]

    def slow(self, seconds: float = SLOW_S) -> None:
        """StorPool takes its time to make a volume."""
        self.stack.storpool.sim.fault({"kind": "delay", "seconds": seconds}, query="VolumeCreate")

    def runs(self, request_id: str) -> str:
        """Which of them has begun it."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [host for host in self.agents if self._began(host, request_id)]
            return bool(found)

        until(look)
        return found[0]

    def stored(self, host: str) -> int:
        """How many requests a host knows."""
        path = self.agents[host].state_dir / "journal.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
            return int(journal.execute("SELECT count(*) FROM command").fetchone()[0])

    def assert_all_acked(self) -> None:
        """What was not comes back to the queue when its agent goes."""
        for agent in self.agents.values():
            assert agent.stop() == 0
        assert self.raw.waiting(topology.ANY_QUEUE) == 0

    def _began(self, host: str, request_id: str) -> bool:
        return any(line.get("request") == request_id for line in self.agents[host].events("started"))


@contextmanager
def running_pair(*, start: bool = True, **settings: Any) -> Iterator[Pair]:
    with (
        running_stack(start=start, **settings) as stack,
        stack.second_agent(start=start) as other,
        raw_client(stack.amqp_url) as raw,
    ):
        yield Pair(stack, raw, {"kvm1": stack.agent, "kvm2": other})


@pytest.fixture
def pair(services: None) -> Iterator[Pair]:
    """Both run."""
    with running_pair() as running:
        yield running


@pytest.fixture
def resting(services: None) -> Iterator[Pair]:
    """Neither runs; the first has one worker."""
    with running_pair(start=False, lanes=ONE_WORKER) as made:
        yield made


def test_one_of_them_does_it(pair: Pair) -> None:
    made = pair.stack.management.call(CreateVolume(size_bytes=MIB, template="dev"), host="any")
    assert pair.stack.management.call(DeleteVolume(volume=f"~{made.global_id}"), host="any").deleted_now
    assert len(pair.stack.storpool.sim.requests("VolumeCreate")) == 1
    pair.assert_all_acked()


def test_an_operator_asks_any_host(pair: Pair) -> None:
    create = ["create-volume", "--size-bytes", str(MIB), "--template", "dev"]
    done = subprocess.run(
        [*CTL, "--url", pair.stack.client_url, "--host", "any", "--json", *create],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert reply["host"] in pair.agents
    assert pair.made(reply["id"]) == [f"~{reply['result']['globalId']}"]


def test_both_take_their_share(pair: Pair) -> None:
    pair.stack.storpool.sim.fault({"kind": "delay", "seconds": 0.2}, query="VolumeCreate", times=None)
    asked = [pair.raw.ask_any(CREATE) for _ in range(32)]
    replies = [pair.raw.reply(one) for one in asked]
    assert [reply["status"] for reply in replies] == ["success"] * len(asked)
    assert {reply["host"] for reply in replies} == {"kvm1", "kvm2"}
    assert len({reply["result"]["globalId"] for reply in replies}) == len(asked)
    assert pair.raw.answered_twice() == {}
    pair.assert_all_acked()


def test_when_the_one_that_runs_it_dies_the_other_finds_what_it_made(pair: Pair) -> None:
    """StorPool has made the volume, and the agent dies while it waits for the answer."""
    pair.stack.storpool.sim.fault({"kind": "hang", "processed": True}, query="VolumeCreate")
    request_id = pair.raw.ask_any(CREATE)
    until(lambda: bool(pair.made(request_id)))
    dead = pair.runs(request_id)
    pair.agents[dead].kill()
    reply = pair.raw.reply(request_id)
    assert (reply["status"], reply["host"] != dead) == ("success", True)
    assert pair.made(request_id) == [f"~{reply['result']['globalId']}"]
    pair.agents[dead].start()
    assert pair.stored(dead) == 0
    assert_answered_once(pair, request_id)
    pair.assert_all_acked()


def test_a_lost_answer_makes_no_second_volume(pair: Pair) -> None:
    pair.stack.storpool.sim.fault({"kind": "close_after"}, query="VolumeCreate")
    request_id = pair.raw.ask_any(CREATE)
    reply = pair.raw.reply(request_id)
    assert pair.made(request_id) == [f"~{reply['result']['globalId']}"]
    pair.assert_all_acked()


@pytest.mark.long
@pytest.mark.parametrize("point", ["accepted", "started", "create:begin", "create:done"])
def test_a_death_before_the_reply_is_stored_leaves_it_to_the_other(resting: Pair, point: str) -> None:
    resting.first.start(crash_at=f"createVolume/{point}")
    request_id = resting.raw.ask_any(CREATE)
    resting.first.wait_crashed()
    resting.second.start()
    reply = resting.raw.reply(request_id)
    assert (reply["status"], reply["host"]) == ("success", "kvm2")
    resting.first.start()
    assert [line["requests"] for line in resting.first.events("left to the broker")] == [1]
    assert resting.made(request_id) == [f"~{reply['result']['globalId']}"]
    assert_answered_once(resting, request_id)
    resting.assert_all_acked()


@pytest.mark.long
def test_a_death_between_reply_and_ack_costs_a_second_reply_that_says_the_same(resting: Pair) -> None:
    resting.first.start(crash_at="createVolume/finished")
    request_id = resting.raw.ask_any(CREATE)
    resting.first.wait_crashed()
    resting.second.start()
    resting.raw.reply(request_id)
    resting.first.start()
    resting.raw.wait_for(2)
    replies = [one.json for one in resting.raw.replies(request_id)]
    assert {one["host"] for one in replies} == {"kvm1", "kvm2"}
    assert [[f"~{one['result']['globalId']}"] for one in replies] == [resting.made(request_id)] * 2
    resting.assert_all_acked()


@pytest.mark.long
def test_a_request_that_no_agent_survives_is_given_up(resting: Pair) -> None:
    request_id = ""
    for _ in range(MAX_ATTEMPTS):
        # The next one gets the request again, and dies of it, as soon as it is there.
        resting.first.start(crash_at="createVolume/create:begin", wait=not request_id)
        request_id = request_id or resting.raw.ask_any(CREATE)
        resting.first.wait_crashed()
    resting.second.start()
    reply = resting.raw.reply(request_id)
    assert (reply["code"], reply["retry"], reply["sideEffects"]) == (ErrorCode.CRASH_LOOP, "uncertain", "partial")
    assert f"{OPERATION}={request_id}" in reply["message"]
    assert reply["facts"] == {"attempts": MAX_ATTEMPTS}
    assert resting.made(request_id) == []
    resting.assert_all_acked()


@pytest.mark.long
def test_the_same_id_again_at_the_same_agent_is_the_same_reply(resting: Pair) -> None:
    resting.first.start()
    request_id = resting.raw.ask_any(CREATE)
    resting.raw.reply(request_id)
    with raw_client(resting.stack.amqp_url) as other:
        other.ask_any(CREATE, request_id=request_id)
        other.reply(request_id)
        other.ask_any({**CREATE, "sizeBytes": 2 * MIB}, request_id=request_id)
        other.wait_for(2)
        (again, conflict) = other.received
    assert again.body == resting.raw.replies(request_id)[0].body
    assert again.correlation_id == conflict.correlation_id == request_id
    refused_by_any(conflict.json, ErrorCode.ID_CONFLICT)
    assert len(resting.made(request_id)) == 1
    resting.assert_all_acked()


@pytest.mark.long
def test_the_same_id_again_at_another_agent_finds_what_was_made(resting: Pair) -> None:
    resting.first.start()
    request_id = resting.raw.ask_any(CREATE)
    resting.raw.reply(request_id)
    resting.first.stop()
    resting.second.start()
    resting.raw.ask_any(CREATE, request_id=request_id)
    resting.raw.wait_for(2)
    replies = [one.json for one in resting.raw.replies(request_id)]
    assert [one["host"] for one in replies] == ["kvm1", "kvm2"]
    assert [[f"~{one['result']['globalId']}"] for one in replies] == [resting.made(request_id)] * 2


@pytest.mark.long
def test_whoever_asks_while_it_runs_gets_the_same_reply(resting: Pair) -> None:
    resting.first.start()
    resting.slow()
    request_id = resting.raw.ask_any(CREATE)
    with raw_client(resting.stack.amqp_url) as other:
        for _ in range(2):
            other.ask_any(CREATE, request_id=request_id)
        resting.raw.reply(request_id)
        other.reply(request_id)
        other.listen_for(0.5)
        (first,), (again,) = resting.raw.replies(request_id), other.replies(request_id)
    assert again.body == first.body
    assert len(resting.made(request_id)) == 1
    resting.assert_all_acked()


def test_a_name_may_not_say_what_is_to_be_changed(pair: Pair) -> None:
    name = f"web-{uuid4().hex[:8]}"
    pair.stack.call(CreateVolume(size_bytes=MIB, template="dev", name=name))
    reply = pair.raw.reply(pair.raw.ask_any({"command": "deleteVolume", "volume": name}))
    refused_by_any(reply, ErrorCode.INVALID_COMMAND, says=("body.deleteVolume.volume", "global id"))
    assert reply["facts"]["field"] == "body.deleteVolume.volume"
    assert pair.raw.dead_letter().headers["code"] == ErrorCode.INVALID_COMMAND
    assert pair.stack.storpool.call("GET", f"Volume/{name}")
    pair.assert_all_acked()


def test_a_command_for_a_host_is_not_for_any(pair: Pair) -> None:
    reply = pair.raw.reply(pair.raw.ask_any({"command": "connectPhysicalDisk", "volume": "~a.b.c"}))
    refused_by_any(reply, ErrorCode.UNKNOWN_COMMAND)
    assert pair.raw.dead_letter().headers["code"] == ErrorCode.UNKNOWN_COMMAND


@pytest.mark.long
def test_a_reply_that_reaches_nobody_waits_at_the_host_and_holds_nothing_up(resting: Pair) -> None:
    resting.first.start()
    word = f"late-{uuid4().hex[:8]}"
    request_id = str(uuid4())
    resting.raw.publish({"id": request_id, "protocol": 1, "body": CREATE}, reply_to=word, routing_key="any")
    until(lambda: bool(resting.first.events("message refused")))
    resting.assert_all_acked()
    resting.raw.listen(word)
    resting.first.start()
    assert resting.raw.reply(request_id)["status"] == "success"
    assert len(resting.made(request_id)) == 1


@pytest.mark.long
def test_a_stop_finishes_what_runs_and_returns_what_has_not_begun(resting: Pair) -> None:
    resting.first.start()
    resting.slow()
    asked = [resting.raw.ask_any(CREATE) for _ in range(3)]
    until(lambda: resting.stored("kvm1") == len(asked))
    assert resting.runs(asked[0]) == "kvm1"
    assert resting.first.stop() == 0
    assert resting.raw.reply(asked[0])["host"] == "kvm1"
    assert resting.stored("kvm1") == 1
    assert resting.raw.waiting(topology.ANY_QUEUE) == 2
    resting.second.start()
    assert [resting.raw.reply(one)["host"] for one in asked[1:]] == ["kvm2", "kvm2"]
    assert [len(resting.made(one)) for one in asked] == [1, 1, 1]
    assert resting.raw.answered_twice() == {}
    resting.assert_all_acked()


@pytest.mark.long
def test_a_lost_connection_changes_nothing_for_what_runs(resting: Pair) -> None:
    """The broker gives the request to the same agent again, where it still runs; the other one was not begun."""
    resting.first.start()
    resting.slow(LONGER_THAN_A_RECONNECT_S)
    asked = [resting.raw.ask_any(CREATE) for _ in range(2)]
    until(lambda: resting.stored("kvm1") == len(asked))
    assert resting.runs(asked[0]) == "kvm1"
    close_all_connections(resting.stack.amqp_url)
    with pytest.raises(ConnectionClosed):
        resting.raw.listen_for(20)
    with raw_client(resting.stack.amqp_url) as raw:
        raw.listen(resting.raw.word)
        assert [raw.reply(one)["status"] for one in asked] == ["success"] * 2
        raw.listen_for(0.5)
        assert raw.answered_twice() == {}
        assert [len(resting.made(one)) for one in asked] == [1, 1]
        assert [line["requests"] for line in resting.first.events("given back")] == [1]
        resting.raw = raw
        resting.assert_all_acked()


@pytest.mark.long
def test_a_request_is_cancelled_at_the_host_that_said_it_has_it(resting: Pair) -> None:
    resting.first.start()
    resting.slow()
    running = resting.raw.ask_any(CREATE)
    assert resting.runs(running) == "kvm1"
    queued = resting.raw.ask_any(CREATE, progress=True)
    accepted = resting.raw.next_reply()
    assert (accepted["status"], accepted["id"], accepted["host"]) == ("accepted", queued, "kvm1")
    cancel = {"id": str(uuid4()), "protocol": 1, "body": {"command": "cancelCommand", "id": queued}}
    resting.raw.publish(cancel, exchange=topology.CONTROL)
    assert resting.raw.reply(queued)["code"] == ErrorCode.CANCELLED
    assert resting.raw.reply(running)["status"] == "success"
    assert resting.made(queued) == []
    resting.assert_all_acked()


def test_a_deadline_that_has_passed_is_not_started(resting: Pair) -> None:
    resting.first.start()
    reply = resting.raw.reply(resting.raw.ask_any(CREATE, deadline="2026-01-01T00:00:00Z"))
    refused_by_any(reply, ErrorCode.DEADLINE_PASSED)
    resting.assert_all_acked()


@pytest.mark.long
def test_only_allowed_publishers_ask_any_host(services: None) -> None:
    with running_pair(amqp={"allowed_publishers": ["management"]}) as pair:
        pair.raw.ask_any(CREATE)
        refused_by_any(pair.raw.next_reply(), ErrorCode.NOT_AUTHORIZED, says=("allowed_publishers",))
        assert pair.raw.dead_letter().headers["code"] == ErrorCode.NOT_AUTHORIZED


@pytest.mark.long
def test_a_host_may_leave_the_queue_alone(services: None) -> None:
    with running_stack(lanes={"any": 0}) as stack, raw_client(stack.amqp_url) as raw:
        raw.settle()
        with pytest.raises(ChannelClosedByBroker, match="NOT_FOUND"):
            raw.waiting(topology.ANY_QUEUE)


def refused_by_any(reply: Mapping[str, Any], code: ErrorCode, says: tuple[str, ...] = ()) -> None:
    refused(reply, code, says=says, hosts=("kvm1", "kvm2"))


def assert_answered_once(pair: Pair, request_id: str) -> None:
    """Also after both have been heard of again."""
    for host in pair.agents:
        asked = str(uuid4())
        ping = {"id": asked, "protocol": 1, "body": {"command": "ping"}}
        pair.raw.publish(ping, routing_key=topology.host_key(host))
        pair.raw.reply(asked)
    assert len(pair.raw.replies(request_id)) == 1


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
