# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host on which something is missing: libvirtd, the broker, room for the journal, sane settings."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agent_process import AgentProcess, Stack, running_stack
from integration.agent.refusals import nothing_changes, refused
from raw_client import RawClient, raw_client
from small_disk import SmallDisk, small_disk
from storpool_commands import topology
from storpool_commands.control import Ping
from storpool_commands.errors import ErrorCode
from tcp_proxy import TcpProxy

pytestmark = pytest.mark.long

MIB = 1 << 20
VM = "9a1c1f0e-6f5c-4d3b-9d5a-0c7f5f6b8a11"
BROKER = ("127.0.0.1", 5672)
OUTAGE_S = 5.0
"""A minute would be the same to the agent, which gives its broker no time limit, and pauses between tries."""
EX_CONFIG, EX_TEMPFAIL = 78, 75


@pytest.fixture(scope="module")
def lonely(services: None) -> Iterator[Stack]:
    """A host without libvirtd. (The shared one is not stopped for a test.)"""
    with running_stack(libvirt={"uri": "qemu+unix:///system?socket=/nonexistent/libvirt-sock"}) as stack:
        yield stack


@pytest.mark.parametrize("command", ["attachDisk", "detachDisk", "StorpoolResizeCmd"])
def test_without_libvirtd_nothing_is_done_to_a_machine(lonely: Stack, command: str) -> None:
    volume = lonely.create()
    fields = {"newSizeBytes": 32 * MIB} if command == "StorpoolResizeCmd" else {"vm": VM}
    with raw_client(lonely.amqp_url) as raw, nothing_changes(lonely):
        reply = raw.reply(raw.ask({"command": command, "volume": volume, "timeoutS": 3, **fields}))
    facts = {"uri": "qemu+unix:///system?socket=/nonexistent/libvirt-sock", "volume": volume}
    refused(reply, ErrorCode.LIBVIRT_UNAVAILABLE, says=("libvirt", "/nonexistent/libvirt-sock"), facts=facts)


def test_without_libvirtd_volumes_are_connected_and_disconnected(lonely: Stack) -> None:
    volume = lonely.create()
    with raw_client(lonely.amqp_url) as raw:
        for command in ("connectPhysicalDisk", "disconnectPhysicalDisk"):
            assert raw.reply(raw.ask({"command": command, "volume": volume}))["status"] == "success"


def test_a_broker_that_is_away_for_a_while_is_waited_for() -> None:
    with TcpProxy(BROKER) as proxy:
        away = {"url": f"amqp://guest:guest@127.0.0.1:{proxy.port}"}
        with running_stack(amqp=away) as stack, raw_client(stack.amqp_url) as raw:
            volume = stack.create()
            stack.storpool.sim.fault({"kind": "delay", "seconds": 3}, query="VolumesReassignWait")
            running = raw.ask({"command": "connectPhysicalDisk", "volume": volume})
            _until(lambda: bool(stack.storpool.sim.requests("AttachmentsList")))
            proxy.cut()
            sent = [raw.ask({"command": "ping"}) for _ in range(20)]
            created = raw.ask({"command": "createVolume", "sizeBytes": MIB, "template": "dev"})
            raw.listen_for(OUTAGE_S)
            assert raw.received == []
            assert stack.attachments(volume) == [(1, "rw")], "a broker is not needed to finish a command"
            proxy.heal()
            replies = [raw.reply(one, timeout_s=60) for one in (running, *sent, created)]
            assert [reply["status"] for reply in replies] == ["success"] * 22
            raw.settle()
            assert raw.answered_twice() == {}
            assert len(stack.storpool.sim.state()["volumes"]) == 2
            stack.storpool.detach(volume[1:])


def test_while_the_journal_has_no_room_commands_wait_in_their_queue_and_what_runs_is_finished() -> None:
    with small_disk(size_mib=16) as disk, _stack_on(disk) as stack, raw_client(stack.amqp_url) as raw:
        volume = stack.create()
        stack.storpool.sim.fault({"kind": "delay", "seconds": 2}, query="VolumesReassignWait")
        running = raw.ask({"command": "connectPhysicalDisk", "volume": volume})
        _until(lambda: bool(stack.storpool.sim.requests("AttachmentsList")))
        disk.fill()
        sent = _until_full(stack, raw, disk)
        waiting = _until_left_in_the_queue(stack, raw, sent)
        assert stack.management.control(Ping(), host=stack.host).host == "kvm1"
        assert raw.replies(waiting) == []
        disk.free()
        assert raw.reply(running)["status"] == "success"
        assert raw.reply(waiting)["status"] == "success"
        for reply in map(raw.reply, sent):
            if reply["status"] == "failure":
                refused(reply, ErrorCode.JOURNAL_UNAVAILABLE, says=("journal", "free some space"))
        _until(lambda: bool(stack.agent.events("journal has room again")))
        raw.settle()
        assert raw.answered_twice() == {}
        stack.storpool.detach(volume[1:])


def test_an_agent_is_not_started_where_it_cannot_write(tmp_path: Path) -> None:
    with small_disk(size_mib=1) as disk:
        disk.read_only()
        ended = _run(tmp_path, state_dir=str(disk.path / "state"))
    assert (ended.returncode, _reasons(ended)) == (EX_CONFIG, [f"state_dir {disk.path}/state: Read-only file system"])


def test_an_agent_is_not_started_where_there_is_no_room(tmp_path: Path) -> None:
    with small_disk(size_mib=1) as disk:
        (disk.path / "state").mkdir()
        disk.fill()
        ended = _run(tmp_path, state_dir=str(disk.path / "state"))
    assert ended.returncode == EX_TEMPFAIL
    (reason,) = _reasons(ended)
    assert f"{disk.path}/state/journal.db" in reason
    assert "free some space" in reason


@pytest.mark.parametrize(
    ("command", "settings", "key"),
    [
        ("run", {"storpol": {"our_id": 1}}, "storpol"),
        ("check-config", {"amqp": {"hots": "broker"}}, "amqp.hots"),
        ("run", {"amqp": {"url": "https://canary-user:canary-password@broker"}}, "amqp"),
    ],
    ids=["an unknown section", "an unknown key", "a value"],
)
def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, command: str, settings: dict[str, Any], key: str
) -> None:
    ended = _run(tmp_path, command, **settings)
    assert ended.returncode == EX_CONFIG
    assert f"agent.toml: {key}: " in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "canary" not in ended.stdout + ended.stderr


@contextmanager
def _stack_on(disk: SmallDisk) -> Iterator[Stack]:
    with running_stack(start=False) as stack:
        stack.agent.state_dir = disk.path / "state"
        stack.agent.configure({**stack.settings, "state_dir": str(stack.agent.state_dir)})
        stack.agent.start()
        yield stack


def _until(condition: Any) -> None:
    give_up_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def _until_full(stack: Stack, raw: RawClient, disk: SmallDisk) -> list[str]:
    """What its write-ahead log has for use again takes some more commands; their ids."""
    sent: list[str] = []
    for _ in range(40):
        if stack.agent.events("journal full"):
            return sent
        sent.append(str(uuid4()))
        ping = json.dumps({"id": sent[-1], "protocol": 1, "body": {"command": "ping"}})
        raw.publish(ping.ljust(500_000).encode())
        while not (raw.replies(sent[-1]) or stack.agent.events("journal full")):
            raw.listen_for(0.05)
        disk.fill()
    raise AssertionError("a disk without room was not noticed")


def _until_left_in_the_queue(stack: Stack, raw: RawClient, sent: list[str]) -> str:
    """The first request that the agent does not take; those before, which it was quick enough for, are added."""
    while True:
        asked = raw.ask({"command": "ping"})
        raw.listen_for(0.5)
        if raw.waiting(topology.host_queue(stack.host)):
            return asked
        sent.append(asked)


def _run(directory: Path, command: str = "run", **settings: Any) -> subprocess.CompletedProcess[str]:
    """An agent that is to end by itself."""
    values = {"storpool": {"api": "127.0.0.1:1", "token": "t", "our_id": 1}, "log": {"format": "json"}, **settings}
    agent = AgentProcess(directory, {"state_dir": str(directory / "state"), **values})
    return subprocess.run(
        [sys.executable, "-m", "storpool_agent", command, "--config", str(agent.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "COLUMNS": "400"},
    )


def _reasons(ended: subprocess.CompletedProcess[str]) -> list[str]:
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    return [line["reason"] for line in lines if line["event"] == "not started"]
