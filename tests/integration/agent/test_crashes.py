# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at every step: after the restart one effect, one stored reply, and the sender has it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent_process import Stack, running_stack
from guest import Disk, Guest
from integration.agent.crashing import through_a_crash
from storpool_commands.client import CommandFailed
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DisconnectPhysicalDisk,
    StorpoolResize,
)
from storpool_commands.errors import ErrorCode
from storpool_commands.volumes import CreateVolume

pytestmark = pytest.mark.long

MIB = 1 << 20

CONNECT_STEPS = ("find", "check", "attach", "confirm", "device")
ATTACH_STEPS = ("find", "machines", *CONNECT_STEPS[1:], "plug")
RESIZE_STEPS = ("find", "storpool", "device", "guest")


def points(command: str, steps: tuple[str, ...]) -> list[str]:
    """Every place where a run of the command can be cut off: between any two things that it leaves behind."""
    taken = [f"{command}/{step}:done" for step in steps]
    noted = [f"{command}/noted"] if "attach" in steps else []
    return [f"{command}/accepted", f"{command}/started", *noted, *taken, f"{command}/finished", "reply/confirmed"]


@pytest.fixture(scope="module")
def stack(services: None) -> Iterator[Stack]:
    with running_stack(start=False) as running:
        yield running


@pytest.fixture(scope="module")
def guest(stack: Stack) -> Iterator[Guest]:
    root = stack.create(32 * MIB)
    stack.storpool.attach(root.removeprefix("~"))
    with Guest([Disk(stack.link(root), "vda", serial="root")]) as running:
        yield running


def mutations(stack: Stack, query: str) -> int:
    """How often StorPool was really changed: a request that is repeated and changes nothing has the same generation."""
    return len({entry["generation"] for entry in stack.storpool.sim.requests(query)})


@pytest.mark.parametrize("point", points("connectPhysicalDisk", CONNECT_STEPS))
def test_a_connect_takes_effect_once(stack: Stack, point: str) -> None:
    volume = stack.create()
    result = through_a_crash(stack, ConnectPhysicalDisk(volume=volume), point)
    assert result.attached_now
    assert stack.attachments(volume) == [(1, "rw")]
    assert Path(result.path).is_block_device()
    stack.storpool.detach(volume.removeprefix("~"))


@pytest.mark.parametrize("point", points("attachDisk", ATTACH_STEPS))
def test_an_attach_takes_effect_once(stack: Stack, guest: Guest, point: str) -> None:
    volume = stack.create()
    serial = f"s{uuid4().hex[:8]}"
    result = through_a_crash(stack, AttachDisk(vm=guest.uuid, volume=volume, serial=serial), point)
    assert list(guest.disk_sources().values()).count(Path(result.path)) == 1
    assert stack.attachments(volume) == [(1, "rw")]
    guest.wait_for_disk(serial)
    stack.agent.start()
    stack.call(DetachDisk(vm=guest.uuid, volume=volume))
    stack.agent.stop()
    guest.wait_until_gone(serial)
    assert stack.attachments(volume) == []


@pytest.mark.parametrize("point", points("StorpoolResizeCmd", RESIZE_STEPS))
def test_a_resize_takes_effect_once(stack: Stack, guest: Guest, point: str) -> None:
    root = next(iter(guest.disk_sources().values())).name
    now = guest.disks()["vda"].size_bytes
    stack.storpool.sim.reset()
    result = through_a_crash(stack, StorpoolResize(volume=f"~{root}", new_size_bytes=now + MIB), point)
    assert (result.size_bytes, result.device_size_bytes) == (now + MIB, now + MIB)
    assert [vm.size_bytes for vm in result.vms] == [now + MIB]
    guest.wait_for_size("vda", now + MIB)
    assert len(stack.storpool.sim.requests("VolumeUpdate")) == 1


@pytest.mark.parametrize("point", points("createVolume", ("create",)))
def test_a_create_makes_one_volume(stack: Stack, point: str) -> None:
    before = {one["globalId"] for one in stack.storpool.call("GET", "VolumesList")}
    result = through_a_crash(stack, CreateVolume(size_bytes=MIB, template="dev"), point)
    after = {one["globalId"] for one in stack.storpool.call("GET", "VolumesList")}
    assert after - before == {result.global_id}


def test_a_request_that_kills_the_agent_each_time_is_given_up(stack: Stack) -> None:
    """It is not run a fourth time, and the sender learns why."""
    volume = stack.create()
    point = "connectPhysicalDisk/device:begin"
    failures: list[CommandFailed] = []

    def send(run: Callable[[], object]) -> None:
        with pytest.raises(CommandFailed) as failure:
            run()
        failures.append(failure.value)

    stack.agent.start(crash_at=point)
    sender = threading.Thread(target=send, args=(lambda: stack.call(ConnectPhysicalDisk(volume=volume)),))
    sender.start()
    stack.agent.wait_crashed()
    for _ in range(2):
        stack.agent.start(crash_at=point, wait=False)
        stack.agent.wait_crashed()
    stack.agent.start(crash_at=point)
    sender.join(60)
    assert [(one.code, one.retry) for one in failures] == [(ErrorCode.CRASH_LOOP, "uncertain")]
    stack.call(DisconnectPhysicalDisk(volume=volume))
    stack.agent.stop()
