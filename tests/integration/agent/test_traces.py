# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A request's trace, from its sender through the broker and the host to StorPool, and back in all that is said."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from agent_process import Stack, running_stack
from integration.agent.copy_lab import MIB, CopyLab
from raw_client import RawClient, raw_client
from storpool_commands import topology

FLAGS = "01"
CALLS = "storpool answered"


class Trace:
    """A sender's span."""

    def __init__(self) -> None:
        self.id = uuid4().hex
        self.span = uuid4().hex[:16]
        self.traceparent = f"00-{self.id}-{self.span}-{FLAGS}"

    def read(self, traceparent: str) -> str:
        """The span of somebody else in this trace."""
        version, trace, span, flags = traceparent.split("-")
        assert (version, trace, flags) == ("00", self.id, FLAGS)
        assert span != self.span
        return span


@pytest.fixture
def trace() -> Trace:
    return Trace()


@pytest.fixture(scope="module")
def stack(shared_lab: CopyLab) -> Stack:
    """One agent for all of it."""
    return shared_lab.stack


@pytest.fixture
def raw(stack: Stack) -> Iterator[RawClient]:
    with raw_client(stack.amqp_url) as raw:
        yield raw


def test_a_command_is_in_its_senders_trace_wherever_it_leaves_a_mark(
    stack: Stack, raw: RawClient, trace: Trace
) -> None:
    volume = stack.create()
    before = len(stack.storpool.sim.requests())
    connect = {"command": "connectPhysicalDisk", "volume": volume}
    asked = raw.ask(connect, progress=True, traceparent=trace.traceparent)
    reply = raw.reply(asked)
    own = trace.read(reply["traceparent"])
    (accepted,) = said(raw, asked, "accepted")
    trace.read(accepted["traceparent"])

    spans = [trace.read(one["traceparent"]) for one in calls(stack, before)]
    assert len(spans) == len(set(spans)) >= 3
    assert own not in spans

    lines = [line for line in stack.agent.events() if line.get("request") == asked]
    assert {line["event"] for line in lines} >= {"started", "done", CALLS}
    assert {line["trace_id"] for line in lines} == {trace.id}
    assert {line["span_id"] for line in lines if line["event"] != "accepted"} == {own}
    assert [line["call_span_id"] for line in lines if line["event"] == CALLS] == spans

    raw.ask(connect, request_id=asked, progress=True, traceparent=trace.traceparent)
    raw.wait_for(3)
    first, again = raw.replies(asked)
    assert first.body == again.body, "the stored reply, byte for byte"


def test_a_name_is_looked_up_in_the_trace_too(stack: Stack, raw: RawClient, trace: Trace) -> None:
    stack.storpool.call("POST", "VolumeUpdate/" + stack.create(), {"rename": "disk1"})
    before = len(stack.storpool.sim.requests())
    raw.reply(raw.ask({"command": "getPhysicalDisk", "volume": "disk1"}, traceparent=trace.traceparent))
    assert len([trace.read(one["traceparent"]) for one in calls(stack, before)]) >= 2


def test_a_failure_a_plan_and_an_answer_of_the_control_queue_are_in_it(
    stack: Stack, raw: RawClient, trace: Trace
) -> None:
    unknown = {"command": "connectPhysicalDisk", "volume": "no-such-volume"}
    failed = raw.reply(raw.ask(unknown, traceparent=trace.traceparent))
    planned = raw.reply(raw.ask(unknown, dryRun=True, traceparent=trace.traceparent))
    late = raw.reply(raw.ask(unknown, deadline="2020-01-01T00:00:00Z", traceparent=trace.traceparent))
    assert [one["code"] for one in (failed, planned, late)] == [
        "volume-not-found",
        "volume-not-found",
        "deadline-passed",
    ]
    request = {"id": str(uuid4()), "protocol": 1, "traceparent": trace.traceparent, "body": {"command": "driftReport"}}
    before = len(stack.storpool.sim.requests())
    raw.publish(request, exchange=topology.CONTROL)
    drift = raw.reply(request["id"])  # type: ignore[arg-type]
    spans = [trace.read(one["traceparent"]) for one in (failed, planned, late, drift)]
    spans += [trace.read(one["traceparent"]) for one in calls(stack, before)]
    assert len(set(spans)) == len(spans) > 4


def test_the_host_makes_up_no_trace(stack: Stack, raw: RawClient) -> None:
    volume = stack.create()
    before = len(stack.storpool.sim.requests())
    asked = raw.ask({"command": "connectPhysicalDisk", "volume": volume}, progress=True)
    raw.reply(asked)
    assert [one.json for one in raw.received if "traceparent" in one.json] == []
    assert {one["traceparent"] for one in stack.storpool.sim.requests()[before:]} == {None}
    lines = [line for line in stack.agent.events() if line.get("request") == asked]
    assert [line for line in lines if line.keys() & {"trace_id", "span_id", "call_span_id"}] == []
    assert len(lines) > 3


@pytest.mark.parametrize(
    "traceparent",
    [
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-Evil: 1",
    ],
    ids=["no trace", "no span", "version ff", "capitals", "a header more"],
)
def test_what_is_no_trace_is_refused_by_name(raw: RawClient, traceparent: str) -> None:
    reply = raw.reply(raw.ask({"command": "ping"}, traceparent=traceparent))
    assert (reply["code"], reply["facts"]["field"]) == ("invalid-request", "traceparent")
    assert "traceparent" not in reply


@pytest.mark.long
def test_the_trace_goes_on_after_a_crash(services: None, trace: Trace) -> None:
    with running_stack() as stack, raw_client(stack.amqp_url) as raw:
        crash(stack, raw, trace)


def crash(stack: Stack, raw: RawClient, trace: Trace) -> None:
    volume = stack.create()
    stack.agent.restart_to_crash_at("connectPhysicalDisk/attach:done")
    before = len(stack.storpool.sim.requests())
    asked = raw.ask({"command": "connectPhysicalDisk", "volume": volume}, traceparent=trace.traceparent)
    stack.agent.wait_crashed()
    stack.agent.start()
    reply = raw.reply(asked)
    assert reply["status"] == "success"
    assert len([trace.read(one["traceparent"]) for one in calls(stack, before)]) >= 3
    runs = {line["span_id"] for line in stack.agent.events("started") if line["request"] == asked}
    assert len(runs) == 2, "each run is a span of its own"
    assert trace.read(reply["traceparent"]) in runs


def test_progress_of_a_copy_is_in_it_as_reply_and_as_event(lab: CopyLab, trace: Trace) -> None:
    events: list[Any] = []
    snapshot = lab.snapshot(bytes(range(256)) * (4 * MIB // 256))
    target = json.loads(lab.nfs.image("traced.raw").model_dump_json(by_alias=True))
    backup = {"command": "backupSnapshot", "snapshot": snapshot, "target": target, "format": "raw"}
    with (
        raw_client(lab.stack.amqp_url) as raw,
        lab.stack.management.events("*.progress.*", events.append),
    ):
        asked = raw.ask({**backup, "bandwidthBytesS": 2 * MIB}, progress=True, traceparent=trace.traceparent)
        own = trace.read(raw.reply(asked)["traceparent"])
        progress = said(raw, asked, "progress")
    assert {trace.read(one["traceparent"]) for one in progress} == {own}
    assert {trace.read(one.traceparent) for one in events if one.subject == asked} == {own}


def calls(stack: Stack, before: int) -> list[dict[str, Any]]:
    """What StorPool was asked since, but for what the agent looks at of its own accord, which changes nothing."""
    asked = stack.storpool.sim.requests()[before:]
    assert [one["query"] for one in asked if one["method"] == "POST" and one["traceparent"] is None] == []
    return [one for one in asked if one["traceparent"] is not None]


def said(raw: RawClient, asked: str, status: str) -> list[dict[str, Any]]:
    return [one.json for one in raw.received if one.json["id"] == asked and one.json["status"] == status]
