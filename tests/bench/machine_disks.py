# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""(c) attachDisk, StorpoolResizeCmd and detachDisk on a running guest, against the same calls made directly."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from agent_process import Stack, running_stack
from bench.figures import Figure, Goal, compared
from bench.libvirt_floor import BareMachine
from bench.load import Load, load_on
from bench.rounds import interleaved
from bench.storpool_floor import BareHost
from guest import Guest
from storpool_agent.domains import event_loop

MIB = 1 << 20
SIZE_BYTES = 16 * MIB
TARGET = "vdb"
SETTLE_S = 0.3
"""After the guest has shown the disk: its kernel still reads it, and would let go of it late."""
GOAL = Goal("<=", 1.3)
COMMANDS = ("attachDisk", "StorpoolResizeCmd", "detachDisk")
FLOOR = "same API and libvirt calls"

Times = dict[str, float]
"""Command -> milliseconds."""


@dataclass
class Life:
    """A disk in a guest, from attach to detach: by the agent or by bare calls."""

    guest: Guest
    serial: str
    attach: Callable[[], None]
    resize: Callable[[], None]
    detach: Callable[[], None]

    def run(self) -> Times:
        attach_ms = _timed(self.attach)
        self.guest.wait_for_disk(self.serial)
        sleep(SETTLE_S)
        resize_ms = _timed(self.resize)
        detach_ms = _timed(self.detach)
        self.guest.wait_until_gone(self.serial)
        return dict(zip(COMMANDS, (attach_ms, resize_ms, detach_ms), strict=True))


def figures(rounds: int) -> list[Figure]:
    with ExitStack() as parts:
        directory = Path(parts.enter_context(TemporaryDirectory(prefix="spagent-bench-")))
        directory.chmod(0o755)  # QEMU enters it
        stack = parts.enter_context(running_stack(device_root=directory / "dev", log={"level": "info"}))
        load = parts.enter_context(load_on(stack.amqp_url))
        event_loop.use()
        parts.callback(event_loop.release)
        guest = parts.enter_context(Guest())
        machine = BareMachine(guest.uri, guest.uuid)
        parts.callback(machine.close)
        lives = {"agent": _by_agent(stack, load, guest).run, "bare": _by_bare_calls(stack, machine, guest).run}
        times = interleaved(lives, rounds)
    return [
        compared(
            "c", name, "ms", [one[name] for one in times["agent"]], [one[name] for one in times["bare"]], FLOOR, GOAL
        )
        for name in COMMANDS
    ]


def _by_agent(stack: Stack, load: Load, guest: Guest) -> Life:
    volume = stack.create(SIZE_BYTES)
    sizes = count(SIZE_BYTES + MIB, MIB)
    on_machine = {"vm": guest.uuid, "volume": volume}

    def send(command: dict[str, object]) -> None:
        load.send(stack.host, command)

    return Life(
        guest,
        _serial(volume),
        lambda: send({"command": "attachDisk", **on_machine}),
        lambda: send({"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": next(sizes)}),
        lambda: send({"command": "detachDisk", **on_machine}),
    )


def _by_bare_calls(stack: Stack, machine: BareMachine, guest: Guest) -> Life:
    bare = BareHost(stack.storpool.api, stack.storpool.token, 1, stack.device_root)
    volume = stack.create(SIZE_BYTES)
    sizes = count(SIZE_BYTES + MIB, MIB)
    path = str(bare.link(volume))

    def attach() -> None:
        machine.look_at_all()
        bare.attach_safely(volume)
        machine.look_at_all()
        machine.plug(path, TARGET, _serial(volume))

    def resize() -> None:
        size_bytes = next(sizes)
        machine.look_at_all()
        bare.resize(volume, size_bytes)
        machine.resize(path, size_bytes)

    def detach() -> None:
        bare.look(volume)
        machine.look_at_all()
        machine.unplug(path)
        machine.look_at_all()
        bare.detach_safely(volume)

    return Life(guest, _serial(volume), attach, resize, detach)


def _serial(volume: str) -> str:
    """As much of it as virtio-blk shows the guest."""
    return volume.removeprefix("~")[:20]


def _timed(work: Callable[[], None]) -> float:
    started = perf_counter()
    work()
    return (perf_counter() - started) * 1000
