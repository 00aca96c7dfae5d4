# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""(d) What the agent costs a host that has nothing for it to do, and whether that grows."""

import subprocess
import sys
from datetime import datetime
from functools import partial
from statistics import median
from time import perf_counter, sleep, time

from agent_process import Stack, running_stack
from bench.figures import Figure, Goal, alone, compared
from bench.load import Load, load_on
from bench.process import rss_mib
from bench.rounds import interleaved

IDLE_S = 2.0
PINGS = 10_000
PAIRS = 200
STARTS = 5
IMPORT_TIMEOUT_S = 30.0
RSS = Goal("<=", 80, of="agent")
FLAT = Goal("<=", 1.05)
"""Threads and SQLite take what they need with the first requests; what grows after that would grow for ever."""
START = Goal("<=", 1.5, of="agent")


def figures(rounds: int) -> list[Figure]:
    with running_stack(log={"level": "info"}) as stack, load_on(stack.amqp_url) as load:
        starts = [_start_s(stack) for _ in range(STARTS)]
        sleep(IDLE_S)
        idle = rss_mib(stack.agent.pid)
        after_pings = _after_pings(stack, load)
        after_more = _after_pings(stack, load)
        after_pairs = _after_pairs(stack, load)
    imports = interleaved(
        {"agent": partial(_python_ms, "import storpool_agent.app"), "bare": partial(_python_ms, "pass")}, rounds
    )
    loading = [ours - bare for ours, bare in zip(imports["agent"], imports["bare"], strict=True)]
    pings = f"RSS after {PINGS:,} pings"
    return [
        alone("d", "RSS idle", "MiB", [idle], RSS),
        alone("d", pings, "MiB", [after_pings], RSS),
        compared("d", pings, "MiB", [after_pings], [idle], "idle"),
        compared("d", f"RSS after {2 * PINGS:,} pings", "MiB", [after_more], [after_pings], pings, FLAT),
        compared("d", f"RSS after {PAIRS} connects, disconnects", "MiB", [after_pairs], [after_more], "before", FLAT),
        alone("d", "start to READY", "s", starts, START),
        alone("d", "import storpool_agent.app", "ms", [median(loading)]),
    ]


def _start_s(stack: Stack) -> float:
    """From fork to the log line that goes with READY=1, by the wall clock of both."""
    stack.agent.stop()
    started = time()
    stack.agent.start()
    ready = datetime.fromisoformat(stack.agent.events("ready")[-1]["timestamp"])
    return ready.timestamp() - started


def _after_pings(stack: Stack, load: Load) -> float:
    load.send(stack.host, {"command": "ping"}, repeat=PINGS, window=64)
    sleep(IDLE_S)
    return rss_mib(stack.agent.pid)


def _after_pairs(stack: Stack, load: Load) -> float:
    volume = stack.create()
    pair = [{"command": f"{verb}PhysicalDisk", "volume": volume} for verb in ("connect", "disconnect")]
    load.send(stack.host, *pair, repeat=PAIRS)
    sleep(IDLE_S)
    return rss_mib(stack.agent.pid)


def _python_ms(code: str) -> float:
    started = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=IMPORT_TIMEOUT_S)
    return (perf_counter() - started) * 1000
