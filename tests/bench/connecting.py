# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""(b) connectPhysicalDisk, published to reply, against the bare calls without a bus."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median
from time import perf_counter

from agent_process import Stack, running_stack
from bench.figures import Figure, Goal, compared
from bench.load import Load, load_on
from bench.rounds import interleaved
from bench.storpool_floor import BareHost

SIZE_BYTES = 16 << 20
ATTACHED = (1, 10, 100)
"""How many are attached, with the one that is measured."""
AT_ONCE = 100
AT_ONCE_ROUNDS = 5
GOAL = Goal("<=", 1.25)
FLAT = Goal("<=", 1.25)
CALL, CALLS = "attach call + wait", "all API calls + wait"

Millis = dict[int, dict[str, list[float]]]
"""How many attached -> contender -> values."""


def figures(rounds: int) -> list[Figure]:
    with ExitStack() as parts:
        stack = parts.enter_context(running_stack(log={"level": "info"}))
        load = parts.enter_context(load_on(stack.amqp_url))
        bare = BareHost(stack.storpool.api, stack.storpool.token, 1, stack.device_root)
        volumes = [stack.create(SIZE_BYTES) for _ in range(max(ATTACHED))]
        passes = [_pass(stack, load, bare, volumes, rounds) for _ in range(3)]
        together = _at_once(stack, load, bare, volumes)
        bare.detach(volumes)
    return [*_one_by_one(passes), *_flatness(passes), together]


def _pass(stack: Stack, load: Load, bare: BareHost, volumes: Sequence[str], rounds: int) -> Millis:
    """From nothing attached to nothing attached; the machine may have changed its pace by the next one."""
    probe, others = volumes[0], volumes[1:]
    found: Millis = {}
    attached = 0
    for count in ATTACHED:
        if more := others[attached : count - 1]:
            bare.attach(more, SIZE_BYTES)
        attached = count - 1
        contenders = {
            "agent": partial(_by_agent, stack, load, bare, probe),
            CALL: partial(_timed, bare, lambda: bare.attach([probe], SIZE_BYTES), [probe]),
            CALLS: partial(_timed, bare, lambda: bare.attach_safely(probe), [probe]),
        }
        found[count] = interleaved(contenders, rounds)
    bare.detach(others)
    return found


def _by_agent(stack: Stack, load: Load, bare: BareHost, volume: str) -> float:
    run = load.send(stack.host, _connect(volume))
    bare.detach([volume])
    return run.typical_ms


def _timed(bare: BareHost, attach: Callable[[], None], volumes: Sequence[str]) -> float:
    started = perf_counter()
    attach()
    took_ms = (perf_counter() - started) * 1000
    bare.detach(volumes)
    return took_ms


def _connect(volume: str) -> dict[str, str]:
    return {"command": "connectPhysicalDisk", "volume": volume}


def _one_by_one(passes: Sequence[Millis]) -> list[Figure]:
    found: list[Figure] = []
    for count in ATTACHED:
        values = {name: [one for each in passes for one in each[count][name]] for name in ("agent", CALL, CALLS)}
        name = f"connectPhysicalDisk, volume {count} of the host"
        found += [compared("b", name, "ms", values["agent"], values[floor], floor, GOAL) for floor in (CALL, CALLS)]
    return found


def _flatness(passes: Sequence[Millis]) -> list[Figure]:
    """Ratio: the agent's time for the last volume over its time for the first."""
    last, first = max(ATTACHED), min(ATTACHED)
    of_last, of_first = ([median(each[count]["agent"]) for each in passes] for count in (last, first))
    return [
        compared("b", f"connectPhysicalDisk, volume {last}", "ms", of_last, of_first, f"agent, volume {first}", FLAT)
    ]


def _at_once(stack: Stack, load: Load, bare: BareHost, volumes: Sequence[str]) -> Figure:
    commands = [_connect(one) for one in volumes[:AT_ONCE]]

    def by_agent() -> float:
        run = load.send_all(stack.host, commands)
        bare.detach(volumes)
        return run.elapsed_s * 1000

    contenders = {"agent": by_agent, "bare": lambda: _timed(bare, lambda: bare.attach(volumes, SIZE_BYTES), volumes)}
    taken = interleaved(contenders, AT_ONCE_ROUNDS, warm_up=False)
    name = f"connectPhysicalDisk, {AT_ONCE} at once"
    return compared("b", name, "ms", taken["agent"], taken["bare"], f"one call for {AT_ONCE} + wait")
