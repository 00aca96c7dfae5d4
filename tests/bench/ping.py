# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""(a) `ping` through the whole durable path: published, stored, run, its reply stored and confirmed."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from agent_process import running_stack
from bench.children import running
from bench.figures import Figure, Goal, compared
from bench.load import Load, Run, load_on, measured
from bench.oslo_peer import Oslo, running_oslo
from bench.process import cpu_s
from bench.rounds import interleaved
from storpool_commands.control import Pong
from storpool_commands.envelope import Success

PING = {"command": "ping"}
REQUESTS = {1: 200, 16: 1000, 64: 2000}
"""Outstanding -> requests in one round."""
OSLO_REQUESTS = {1: 100, 16: 300, 64: 600}
LATENCY = {"echo": Goal("<=", 1.6)}
RATES = {"echo": Goal(">=", 0.6), "oslo": Goal(">=", 4)}


@dataclass(frozen=True)
class Sample:
    """One round of one contender."""

    run: Run
    cpu_ms: float
    """Of the serving process, for each request."""


def figures(rounds: int) -> list[Figure]:
    with ExitStack() as parts:
        stack = parts.enter_context(running_stack(log={"level": "info"}))
        load = parts.enter_context(load_on(stack.amqp_url))
        echo = parts.enter_context(running("echo.py", stack.amqp_url, "echo", reply_of_echo()))
        oslo = parts.enter_context(running_oslo(stack.amqp_url))
        found: list[Figure] = []
        for window, repeat in REQUESTS.items():
            job = {"repeat": OSLO_REQUESTS[window], "window": window}
            contenders: dict[str, Callable[[], Sample]] = {
                "agent": partial(_ping, load, stack.host, stack.agent.pid, repeat, window),
                "echo": partial(_ping, load, "echo", echo.pid, repeat, window),
                "oslo": partial(_call, oslo, job),
            }
            found += _figures(window, interleaved(contenders, rounds))
        return found


def _ping(load: Load, host: str, pid: int, repeat: int, window: int) -> Sample:
    before_s = cpu_s(pid)
    run = load.send(host, PING, repeat=repeat, window=window)
    return Sample(run, (cpu_s(pid) - before_s) * 1000 / repeat)


def _call(oslo: Oslo, job: dict[str, int]) -> Sample:
    before_s = cpu_s(oslo.server.pid)
    run = measured(oslo.client, job)
    return Sample(run, (cpu_s(oslo.server.pid) - before_s) * 1000 / job["repeat"])


def _figures(window: int, samples: dict[str, list[Sample]]) -> list[Figure]:
    latencies = {name: [one.run.typical_ms for one in of_one] for name, of_one in samples.items()}
    rates = {name: [one.run.rate for one in of_one] for name, of_one in samples.items()}
    cpu = {name: [one.cpu_ms for one in of_one] for name, of_one in samples.items()}
    name = f"ping, {window} outstanding"
    floors = {"echo": "pika echo", "oslo": "oslo.messaging RPC"}
    if window == 1:
        return [
            compared("a", f"{name}: latency", "ms", latencies["agent"], latencies[key], floor, LATENCY.get(key))
            for key, floor in floors.items()
        ]
    goals = RATES if window == max(REQUESTS) else {}
    found = [
        compared("a", f"{name}: rate", "/s", rates["agent"], rates[key], floor, goals.get(key))
        for key, floor in floors.items()
    ]
    if window == max(REQUESTS):
        found += [
            compared("a", f"{name}: CPU of each", "ms", cpu["agent"], cpu[key], floor) for key, floor in floors.items()
        ]
    return found


def reply_of_echo() -> str:
    """As the agent's, so that the broker carries the same."""
    pong = Pong(host="echo", version="0.1.0", time=datetime.now(UTC))
    return Success(id=uuid4(), host="echo", result=pong, took_ms=0.1).model_dump_json(by_alias=True)
