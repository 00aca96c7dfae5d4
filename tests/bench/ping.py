# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""(a) `ping` through the whole durable path: published, stored, run, its reply stored and confirmed."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from agent_process import running_stack
from bench.children import running
from bench.figures import Figure, Goal, compared
from bench.load import Load, Run, load_on, measured
from bench.oslo_peer import running_oslo
from bench.rounds import interleaved
from storpool_commands.control import Pong
from storpool_commands.envelope import Success

PING = {"command": "ping"}
REQUESTS = {1: 200, 16: 1000, 64: 2000}
"""Outstanding -> requests in one round."""
OSLO_REQUESTS = {1: 100, 16: 300, 64: 600}

Measure = Callable[[], Run]


def figures(rounds: int) -> list[Figure]:
    with ExitStack() as parts:
        stack = parts.enter_context(running_stack(log={"level": "info"}))
        load = parts.enter_context(load_on(stack.amqp_url))
        parts.enter_context(running("echo.py", stack.amqp_url, "echo", _reply()))
        oslo = parts.enter_context(running_oslo(stack.amqp_url))
        found: list[Figure] = []
        for window, repeat in REQUESTS.items():
            contenders: dict[str, Measure] = {
                "agent": partial(_ping, load, stack.host, repeat, window),
                "echo": partial(_ping, load, "echo", repeat, window),
                "oslo": partial(measured, oslo, {"repeat": OSLO_REQUESTS[window], "window": window}),
            }
            found += _figures(window, interleaved(contenders, rounds))
        return found


def _ping(load: Load, host: str, repeat: int, window: int) -> Run:
    return load.send(host, PING, repeat=repeat, window=window)


def _figures(window: int, runs: dict[str, list[Run]]) -> list[Figure]:
    latencies = {name: [run.typical_ms for run in of_one] for name, of_one in runs.items()}
    rates = {name: [run.rate for run in of_one] for name, of_one in runs.items()}
    echo, oslo = "pika echo", "oslo.messaging RPC"
    if window == 1:
        name, goal = "ping, 1 outstanding: latency", Goal("<=", 1.6)
        return [
            compared("a", name, "ms", latencies["agent"], latencies["echo"], echo, goal),
            compared("a", name, "ms", latencies["agent"], latencies["oslo"], oslo),
        ]
    name = f"ping, {window} outstanding: rate"
    of_echo, of_oslo = (Goal(">=", 0.6), Goal(">=", 4)) if window == 64 else (None, None)
    return [
        compared("a", name, "/s", rates["agent"], rates["echo"], echo, of_echo),
        compared("a", name, "/s", rates["agent"], rates["oslo"], oslo, of_oslo),
    ]


def _reply() -> str:
    """As the agent's, so that the broker carries the same."""
    pong = Pong(host="echo", version="0.1.0", time=datetime.now(UTC))
    return Success(id=uuid4(), host="echo", result=pong, took_ms=0.1).model_dump_json(by_alias=True)
