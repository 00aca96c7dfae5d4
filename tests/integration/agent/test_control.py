# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Control commands on real parts: a drain, what is attached, where the parts do not agree, the level of the log."""

import time
from collections.abc import Callable, Iterator

import pytest

from agent_process import Stack, running_stack
from rabbit import close_all_connections
from raw_client import RawClient, raw_client
from storpool_commands import topology
from storpool_commands.control import Drain, GetDriftReport, ListAttachments, Ping, SetLogLevel
from storpool_commands.disks import ConnectPhysicalDisk

MIB = 1 << 20
HOST_QUEUE = topology.host_queue("kvm1")
SLOW_S = 1.0


@pytest.fixture
def raw(stack: Stack) -> Iterator[RawClient]:
    with raw_client(stack.amqp_url) as raw:
        yield raw


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_a_drained_host_leaves_its_commands_in_the_queue(stack: Stack, raw: RawClient) -> None:
    drained = stack.call(Drain(on=True))
    assert (drained.draining, drained.unfinished) == (True, 0)
    asked = raw.ask({"command": "ping"})
    until(lambda: raw.waiting(HOST_QUEUE) == 1)
    assert stack.management.control(Ping(), host=stack.host).host == "kvm1"
    assert stack.call(Drain(on=True)).unfinished == 0
    assert raw.replies(asked) == []
    assert not stack.call(Drain(on=False)).draining
    assert raw.reply(asked)["status"] == "success"
    assert raw.waiting(HOST_QUEUE) == 0
    assert not stack.call(Drain(on=False)).draining
    assert stack.call(Ping()).host == "kvm1"


@pytest.mark.long
def test_a_drain_outlives_the_connection_and_not_the_agent(stack: Stack) -> None:
    stack.call(Drain(on=True))
    before = len(stack.agent.events("broker connected"))
    close_all_connections(stack.amqp_url)
    until(lambda: len(stack.agent.events("broker connected")) >= before + 2)
    with raw_client(stack.amqp_url) as again:
        asked = again.ask({"command": "ping"})
        until(lambda: again.waiting(HOST_QUEUE) == 1)
        assert stack.management.control(Ping(), host=stack.host).host == "kvm1"
        assert (again.waiting(HOST_QUEUE), again.replies(asked)) == (1, [])
        stack.agent.stop()
        stack.agent.start()
        assert again.reply(asked)["status"] == "success"


def test_what_runs_is_finished_and_counted(stack: Stack, raw: RawClient) -> None:
    volume = stack.create()
    stack.storpool.sim.fault({"kind": "delay", "seconds": SLOW_S}, query="VolumeUpdate")
    asked = raw.ask({"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": 32 * MIB})
    until(lambda: bool(stack.agent.events("started")))
    assert stack.call(Drain(on=True)).unfinished == 1
    assert raw.reply(asked)["status"] == "success"
    until(lambda: stack.call(Drain(on=True)).unfinished == 0)


def test_a_drained_host_leaves_what_any_host_can_do_to_others(stack: Stack, raw: RawClient) -> None:
    stack.call(Drain(on=True))
    asked = raw.ask_any({"command": "createVolume", "sizeBytes": MIB, "template": "dev"})
    until(lambda: raw.waiting(topology.ANY_QUEUE) == 1)
    assert stack.management.control(Ping(), host=stack.host).host == "kvm1"
    assert stack.storpool.call("GET", "VolumesList") == []
    stack.call(Drain(on=False))
    assert raw.reply(asked)["status"] == "success"


def test_attachments_and_drift_are_those_of_the_real_parts(stack: Stack) -> None:
    used, lost, elsewhere = stack.create(), stack.create(), stack.create()
    for volume in (used, lost):
        stack.call(ConnectPhysicalDisk(volume=volume))
    stack.storpool.attach(elsewhere[1:], client=2)
    stack.storpool.attach(used[1:], client=2)
    link = stack.link(lost)
    target = link.readlink()
    link.unlink()
    stranger = stack.link("~d.n.zzz")
    stranger.symlink_to("nowhere")
    try:
        listed = stack.call(ListAttachments()).attachments
        assert {(one.global_id, one.mode, one.path) for one in listed} == {
            (used[1:], "rw", str(stack.link(used))),
            (lost[1:], "rw", None),
        }
        drifts = stack.call(GetDriftReport()).drifts
        assert {(one.kind, one.global_id, one.path) for one in drifts} == {
            ("two-writers", used[1:], str(stack.link(used))),
            ("not-attached", "d.n.zzz", str(stranger)),
            ("no-device", lost[1:], str(link)),
            ("not-used", used[1:], str(stack.link(used))),
            ("not-used", lost[1:], None),
        }
    finally:
        stranger.unlink()
        link.symlink_to(target)


def test_a_host_without_attachments_has_no_drift(stack: Stack) -> None:
    assert stack.call(ListAttachments()).attachments == []
    assert stack.call(GetDriftReport()).drifts == []


@pytest.mark.long
def test_a_level_is_set_while_the_agent_runs() -> None:
    with running_stack(log={"level": "info"}) as stack:
        stack.call(Ping())
        assert logged(stack) == (0, 1)
        changed = stack.call(SetLogLevel(level="debug"))
        assert (changed.before, changed.after) == ("info", "debug")
        stack.call(Ping())
        assert logged(stack) == (1, 2)
        assert stack.call(SetLogLevel(level="error")).before == "debug"
        stack.call(Ping())
        assert logged(stack) == (1, 3), "what an audit needs stays"


def logged(stack: Stack) -> tuple[int, int]:
    """Pings that were started and done: `started` is at level debug, `done` is of the audit."""
    started, done = (
        [line for line in stack.agent.events(name) if line["command"] == "ping"] for name in ("started", "done")
    )
    return len(started), len(done)
