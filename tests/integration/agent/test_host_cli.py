# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What an admin asks on the host: of an agent that runs, one that is stopped by a signal, one that was killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agent_process import Stack, running_stack
from block_device import opened
from guest import Guest
from raw_client import RawClient, raw_client
from standstill import stop
from storpool_commands import topology
from storpool_commands.client import CommandFailed
from storpool_commands.control import ListCommands, Ping
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, DetachDisk, DisconnectPhysicalDisk
from tcp_proxy import TcpProxy

MIB = 1 << 20
BROKER = ("127.0.0.1", 5672)
CLI_TIMEOUT_S = 60.0
SLOW_S = 8.0
"""So long a request runs that is looked at: the program is started several times meanwhile."""
TROUBLE, NOT_RUNNING = 1, 3


@dataclass(frozen=True)
class Said:
    """By one run of the program."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Admin:
    """Somebody with a shell on the host."""

    stack: Stack

    def run(self, *arguments: str) -> Said:
        command = [sys.executable, "-m", "storpool_agent", *arguments, "--config", str(self.stack.agent.config)]
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=CLI_TIMEOUT_S
        )
        assert "Traceback" not in ran.stderr, ran.stderr
        return Said(ran.returncode, ran.stdout, ran.stderr)

    def ask(self, *arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run(*arguments, "--json").out)
        return answer


@pytest.fixture(scope="module")
def shared_stack(services: None) -> Iterator[Stack]:
    with running_stack() as running:
        yield running


@pytest.fixture
def admin(shared_stack: Stack) -> Iterator[Admin]:
    """Whose agent runs in the end as in the beginning."""
    yield Admin(shared_stack)
    shared_stack.storpool.sim.clear_faults()


@pytest.fixture
def raw(admin: Admin) -> Iterator[RawClient]:
    with raw_client(admin.stack.amqp_url) as raw:
        yield raw


@pytest.fixture
def volume(admin: Admin) -> Iterator[str]:
    """Connected to the host."""
    made = admin.stack.create(32 * MIB)
    admin.stack.call(ConnectPhysicalDisk(volume=made))
    yield made
    for client, _ in admin.stack.attachments(made):
        admin.stack.storpool.detach(made[1:], client)


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def send_as(request_id: str, raw: RawClient, command: dict[str, Any]) -> None:
    """Under an id of the test's choice, and wait for the reply."""
    raw.ask(command, id=request_id)
    raw.reply(request_id)


def accepted(admin: Admin, request_id: str) -> bool:
    """The agent has it."""
    listed = admin.stack.management.control(ListCommands(limit=5), host=admin.stack.host)
    return request_id in {str(one.id) for one in listed.commands}


def test_a_healthy_agent_is_zero(admin: Admin) -> None:
    said = admin.run("status")
    assert (said.status, said.err) == (0, ""), said
    for part in ("kvm1: serves", f"pid {admin.stack.agent.pid}", "connected since", "lane fast", "cluster", "QEMU"):
        assert part in said.out
    told = admin.ask("status")
    assert (told["agent"]["state"], told["troubles"], told["process"]["draining"]) == ("running", [], False)
    assert [one["connected"] for one in told["process"]["links"]] == [True, True]


def test_a_request_is_found_by_the_beginning_of_its_id(admin: Admin, raw: RawClient, volume: str) -> None:
    first, second = (f"{uuid4().hex[:4]}0000-0000-4000-8000-{uuid4().hex[:12]}" for _ in range(2))
    send_as(first, raw, {"command": "connectPhysicalDisk", "volume": volume})
    send_as(second, raw, {"command": "attachDisk", "volume": volume, "vm": "nobody"})
    lines = admin.run("jobs", "--limit", "2").out.splitlines()
    assert lines[0].split() == ["ID", "COMMAND", "ABOUT", "RECEIVED", "TRIES", "STATE"]
    assert [line.split()[:4] for line in lines[1:]] == [
        [second, "attachDisk", volume, "nobody"],
        [first, "connectPhysicalDisk", volume, lines[2].split()[3]],
    ]
    assert "vm-not-found" in lines[1]
    told = admin.run("job", second[:9])
    assert told.status == 0, told
    for part in (second, "vm-not-found: ", "Steps", '"vm": "nobody"'):
        assert part in told.out
    assert admin.ask("job", second)["reply"]["code"] == "vm-not-found"
    unknown = admin.run("job", str(uuid4()))
    assert (unknown.status, "unknown-request" in unknown.err) == (TROUBLE, True)


def test_a_beginning_that_several_have_names_them(admin: Admin, raw: RawClient) -> None:
    begun = uuid4().hex[:8]
    both = [f"{begun}-0000-4000-8000-{number:012x}" for number in range(2)]
    for request_id in both:
        send_as(request_id, raw, {"command": "ping"})
    said = admin.run("job", begun)
    assert (said.status, said.out) == (TROUBLE, "")
    assert {request_id for request_id in both if request_id in said.err} == set(both)
    assert admin.run("job", both[0][:-1] + "7").status == TROUBLE
    assert admin.run("job", "no-id").status == 2


def test_requests_that_run_and_wait_are_shown_with_whom_they_wait_for(
    admin: Admin, raw: RawClient, volume: str
) -> None:
    admin.stack.storpool.sim.fault({"kind": "delay", "seconds": SLOW_S}, query="VolumeUpdate")
    running = raw.ask({"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": 48 * MIB})
    until(lambda: running in {line.get("request") for line in admin.stack.agent.events("started")})
    waiting = raw.ask({"command": "connectPhysicalDisk", "volume": volume})
    until(lambda: accepted(admin, waiting))
    said = admin.run("why", volume)
    details = admin.ask("job", waiting)["details"]
    assert f"StorpoolResizeCmd {running[:8]} is at work on it." in said.out
    assert f"1 request waits for it; the next is connectPhysicalDisk: `storpool-agent job {waiting}`" in said.out
    assert details["waitsFor"] == [running]
    assert [raw.reply(one)["status"] for one in (running, waiting)] == ["success"] * 2


def test_a_program_that_has_a_volume_open_is_named(admin: Admin, volume: str) -> None:
    pid = os.getpid()
    with opened(admin.stack.link(volume)):
        with pytest.raises(CommandFailed):
            admin.stack.call(DisconnectPhysicalDisk(volume=volume, timeout_s=6))
        said = admin.run("why", f"/dev/storpool-byid/{volume[1:]}")
    assert f"(pid {pid}) has it open." in said.out
    assert f"`ps -fp {pid}`" in said.out
    assert "disconnectPhysicalDisk: volume-busy" in said.out
    free = admin.run("why", volume)
    assert "attached here (rw), and nothing on this host uses it." in free.out
    assert f"disconnect-physical-disk --volume '{volume}'" in free.out


def test_attachments_and_drift_are_tables(admin: Admin, volume: str) -> None:
    said = admin.run("attachments")
    assert said.out.splitlines()[1].split()[:5] == [volume, "volume", "rw", "32", "MiB"]
    drift = admin.run("drift")
    assert (drift.status, drift.out.splitlines()[1].split()[:2]) == (TROUBLE, ["not-used", volume])
    admin.stack.call(DisconnectPhysicalDisk(volume=volume))
    assert (admin.run("drift").status, admin.run("attachments").out) == (0, "")


@pytest.mark.long
def test_a_machine_that_has_a_volume_is_named_until_its_guest_lets_go(admin: Admin) -> None:
    volume = admin.stack.create(32 * MIB)
    with Guest(persistent=True) as guest:
        admin.stack.call(AttachDisk(vm=guest.name, volume=volume, serial="data"))
        guest.wait_for_disk("data")
        said = admin.run("why", volume)
        assert f"Machine {guest.name} runs with it as vd" in said.out
        assert f"QEMU of machine {guest.name}" in said.out
        assert f"detach-disk --vm {guest.uuid} --volume '{volume}'" in said.out
        guest.pause()
        with pytest.raises(CommandFailed):
            admin.stack.call(DetachDisk(vm=guest.uuid, volume=volume, wait_guest_s=1))
        pending = admin.run("why", volume)
        assert "Its guest was asked to let go of it, and has not yet." in pending.out
        assert f"as soon as the guest of {guest.name} lets go" in pending.out
        assert admin.ask("status")["pendingUnplugs"] == 1
        with stopped_by_signal(admin.stack):
            alone = admin.run("why", volume)
            assert "does not answer" in alone.err
            assert alone.out.splitlines()[1] == pending.out.splitlines()[1]
        guest.resume()
        until(lambda: admin.stack.attachments(volume) == [])
    assert admin.run("drift").status == 0


@pytest.mark.long
def test_a_drain_needs_no_broker(services: None) -> None:
    with TcpProxy(BROKER) as proxy:
        away = {"url": f"amqp://guest:guest@127.0.0.1:{proxy.port}"}
        with running_stack(amqp=away) as stack, raw_client(stack.amqp_url) as raw:
            admin = Admin(stack)
            proxy.cut()
            until(lambda: not any(one["connected"] for one in admin.ask("status")["process"]["links"]))
            troubled = admin.run("status")
            assert (troubled.status, troubled.out.count("not connected to the broker")) == (TROUBLE, 2)
            drained = admin.run("drain", "on")
            assert (drained.status, drained.out[:19]) == (0, "Drained, and quiet:"), drained
            proxy.heal()
            until(lambda: all(one["connected"] for one in admin.ask("status")["process"]["links"]))
            asked = raw.ask({"command": "ping"})
            assert stack.management.control(Ping(), host=stack.host).host == "kvm1"
            assert (raw.waiting(topology.host_queue("kvm1")), raw.replies(asked)) == (1, [])
            assert "drained, takes no commands" in admin.run("status").out
            assert admin.ask("drain", "off")["draining"] is False
            assert raw.reply(asked)["status"] == "success"


def test_a_request_that_waits_is_cancelled(admin: Admin, raw: RawClient, volume: str) -> None:
    admin.stack.storpool.sim.fault({"kind": "delay", "seconds": SLOW_S}, query="VolumeUpdate")
    running = raw.ask({"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": 64 * MIB})
    until(lambda: running in {line.get("request") for line in admin.stack.agent.events("started")})
    waiting = raw.ask({"command": "disconnectPhysicalDisk", "volume": volume})
    until(lambda: accepted(admin, waiting))
    said = admin.run("cancel", waiting)
    assert (said.status, said.out) == (0, f"{waiting} had not begun, and will not.\n")
    assert raw.reply(waiting)["code"] == "cancelled"
    assert raw.reply(running)["status"] == "success"
    assert "too-late" in admin.run("cancel", waiting).err
    assert "local request" in {line["event"] for line in admin.stack.agent.events()}


@pytest.mark.long
def test_an_agent_that_hangs_is_said_to_and_is_done_without(admin: Admin, volume: str) -> None:
    before = admin.ask("jobs")["commands"]
    with stopped_by_signal(admin.stack) as pid, unchanged(admin.stack.agent.state_dir):
        said = admin.run("status")
        assert said.status == TROUBLE
        assert f"The agent (pid {pid}, running since" in said.err
        assert f"it is stopped by a signal; `kill -CONT {pid}` lets it go on" in said.err
        alone = admin.ask("jobs")
        assert (alone["agent"]["state"], alone["agent"]["pid"]) == ("silent", pid)
        assert [one["id"] for one in alone["commands"]] == [one["id"] for one in before]
        assert "attached here (rw)" in admin.run("why", volume).out
        assert admin.run("drain", "on").status == TROUBLE
    until(lambda: admin.run("status").status == 0)  # its watchdog finds its threads late at first


@pytest.mark.long
def test_an_agent_that_was_killed_or_stopped_is_done_without_and_nothing_is_touched(stack: Stack) -> None:
    admin, volume = Admin(stack), stack.create()
    stack.call(ConnectPhysicalDisk(volume=volume))
    before = admin.ask("jobs")["commands"]
    stack.agent.kill()
    with unchanged(stack.agent.state_dir):
        said = admin.run("status")
        assert said.status == NOT_RUNNING
        assert re.search(r"The agent does not run since \d{4}-.*: it last wrote to its journal then", said.err), said
        assert "kvm1: does not run" in said.out
        assert [one["id"] for one in admin.ask("jobs")["commands"]] == [one["id"] for one in before]
        assert admin.ask("attachments")["attachments"][0]["globalId"] == volume[1:]
        assert admin.ask("drift")["drifts"][0]["kind"] == "not-used"
        assert "attached here (rw), and nothing" in admin.run("why", volume).out
        assert admin.run("drain", "on").status == NOT_RUNNING
        assert admin.run("cancel", before[0]["id"]).status == NOT_RUNNING
    stack.agent.start()
    assert admin.run("status").status == 0, "the socket that was left behind is replaced"
    stack.agent.stop()
    assert not stack.agent.directory.joinpath("control.sock").exists()
    with unchanged(stack.agent.state_dir):
        assert admin.run("status").status == NOT_RUNNING
        assert admin.ask("jobs")["commands"]
    stack.storpool.detach(volume[1:])


def test_its_log_is_read_from_its_file(admin: Admin, raw: RawClient) -> None:
    asked = raw.ask({"command": "getPhysicalDisk", "volume": "nothing-1"})
    assert raw.reply(asked)["code"] == "volume-not-found"
    command = [sys.executable, "-m", "storpool_agent", "logs", "--request", asked[:8], "--level", "info"]
    said = subprocess.run([*command, str(admin.stack.agent.log_file)], capture_output=True, text=True, check=True)
    accepted, line = said.stdout.splitlines()
    assert "info accepted" in " ".join(accepted.split())
    assert "warning failed" in line
    assert "code=volume-not-found" in line


@contextmanager
def stopped_by_signal(stack: Stack) -> Iterator[int]:
    pid = stack.agent.pid
    stop(pid)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def unchanged(directory: Path) -> Iterator[None]:
    """No file is made, changed or removed."""

    def picture() -> dict[str, tuple[int, int, bytes]]:
        files = [file for file in directory.iterdir() if file.is_file()]
        return {file.name: (file.stat().st_mtime_ns, file.stat().st_ino, file.read_bytes()) for file in files}

    before = picture()
    yield
    assert picture() == before
