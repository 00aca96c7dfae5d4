# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""(b) connectPhysicalDisk, published to reply, against the bare calls without a bus, and with a bare bus."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

from agent_process import Stack, running_stack
from bench.children import running
from bench.figures import Figure, Goal, compared
from bench.load import Load, load_on
from bench.ping import PING, reply_of_echo
from bench.rounds import interleaved
from bench.storpool_floor import BareHost

SIZE_BYTES = 16 << 20
ATTACHED = (1, 10, 100)
"""How many are attached, with the one that is measured."""
AT_ONCE = 100
AT_ONCE_ROUNDS = 5
PASSES = 3
SLOW_S = 0.03
"""Added to each answer of the API, for a cluster that is not on this machine."""
GOAL = Goal("<=", 1.25)
FLAT = Goal("<=", 1.25)
CALL, CALLS, BUS = "attach call + wait", "all API calls + wait", "the same + pika echo"

Values = dict[str, list[float]]
"""Contender -> milliseconds."""


@dataclass(frozen=True)
class Contest:
    """One volume, attached in turn by the agent and by bare calls, and detached after each."""

    stack: Stack
    load: Load
    bare: BareHost
    volume: str

    def run(self, rounds: int) -> Values:
        contenders: dict[str, Callable[[], float]] = {
            "agent": partial(self._timed, self._by_agent),
            CALL: partial(self._timed, lambda: self.bare.attach([self.volume], SIZE_BYTES)),
            CALLS: partial(self._timed, lambda: self.bare.attach_safely(self.volume)),
            "echo": lambda: self.load.send("echo", PING).typical_ms,
        }
        values = interleaved(contenders, rounds)
        values[BUS] = [calls + echo for calls, echo in zip(values[CALLS], values["echo"], strict=True)]
        return values

    def _by_agent(self) -> None:
        self.load.send(self.stack.host, _connect(self.volume))

    def _timed(self, attach: Callable[[], None]) -> float:
        took_ms = _timed(attach)
        self.bare.detach([self.volume])
        return took_ms


def figures(rounds: int) -> list[Figure]:
    with ExitStack() as parts:
        stack = parts.enter_context(running_stack(log={"level": "info"}))
        load = parts.enter_context(load_on(stack.amqp_url))
        parts.enter_context(running("echo.py", stack.amqp_url, "echo", reply_of_echo()))
        bare = BareHost(stack.storpool.api, stack.storpool.token, 1, stack.device_root)
        volumes = [stack.create(SIZE_BYTES) for _ in range(max(ATTACHED))]
        contest = Contest(stack, load, bare, volumes[0])
        passes = [_pass(contest, volumes[1:], rounds) for _ in range(PASSES)]
        slow = _slow(contest, rounds)
        together = _at_once(contest, volumes)
    return [*_one_by_one(passes), _flatness(passes), *_against("volume 1, API 30 ms slower", slow), together]


def _pass(contest: Contest, others: Sequence[str], rounds: int) -> dict[int, Values]:
    """From nothing attached to nothing attached; the machine may have changed its pace by the next one."""
    found: dict[int, Values] = {}
    attached = 0
    for count in ATTACHED:
        if more := others[attached : count - 1]:
            contest.bare.attach(more, SIZE_BYTES)
        attached = count - 1
        found[count] = contest.run(rounds)
    contest.bare.detach(others)
    return found


def _slow(contest: Contest, rounds: int) -> Values:
    simulator = contest.stack.storpool.sim
    simulator.fault({"kind": "delay", "seconds": SLOW_S}, times=None)
    try:
        return contest.run(rounds)
    finally:
        simulator.clear_faults()


def _one_by_one(passes: Sequence[dict[int, Values]]) -> list[Figure]:
    found: list[Figure] = []
    for count in ATTACHED:
        names = passes[0][count]
        values = {name: [one for each in passes for one in each[count][name]] for name in names}
        found += _against(f"volume {count}", values)
    return found


def _against(which: str, values: Values) -> list[Figure]:
    name = f"connectPhysicalDisk, {which}"
    return [compared("b", name, "ms", values["agent"], values[floor], floor, GOAL) for floor in (CALL, CALLS, BUS)]


def _flatness(passes: Sequence[dict[int, Values]]) -> Figure:
    """Ratio: the agent's time for the last volume over its time for the first."""
    last, first = max(ATTACHED), min(ATTACHED)
    of_last, of_first = ([median(each[count]["agent"]) for each in passes] for count in (last, first))
    name = f"connectPhysicalDisk, volume {last}"
    return compared("b", name, "ms", of_last, of_first, f"agent, volume {first}", FLAT)


def _at_once(contest: Contest, volumes: Sequence[str]) -> Figure:
    commands = [_connect(one) for one in volumes[:AT_ONCE]]

    def measured(attach: Callable[[], None]) -> float:
        took_ms = _timed(attach)
        contest.bare.detach(volumes)
        return took_ms

    contenders = {
        "agent": partial(measured, lambda: _send_all(contest, commands)),
        "bare": partial(measured, lambda: contest.bare.attach(volumes, SIZE_BYTES)),
    }
    taken = interleaved(contenders, AT_ONCE_ROUNDS, warm_up=False)
    name = f"connectPhysicalDisk, {AT_ONCE} at once"
    return compared("b", name, "ms", taken["agent"], taken["bare"], f"one call for {AT_ONCE} + wait")


def _send_all(contest: Contest, commands: Sequence[dict[str, str]]) -> None:
    contest.load.send_all(contest.stack.host, commands)


def _connect(volume: str) -> dict[str, str]:
    return {"command": "connectPhysicalDisk", "volume": volume}


def _timed(attach: Callable[[], None]) -> float:
    started = perf_counter()
    attach()
    return (perf_counter() - started) * 1000
