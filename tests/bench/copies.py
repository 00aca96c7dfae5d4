# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`make bench-copy`: what the agent's image tools need for a copy, against qemu-img by itself and the bare devices.

The contenders take turns in each round, each with a fresh target and dropped caches: the tools (ImageTools.convert),
qemu-img with the flags that are best for the direction, qemu-img with its defaults, and dd of the data alone, direct.
Then whole jobs, from command to reply: see `copy_jobs`.
"""

import resource
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click

from bench import copy_jobs, report
from bench.copy_stage import MIB, Place, Stage, tool
from bench.figures import Figure, Goal, alone, compared
from bench.process import family
from bench.rounds import interleaved
from storpool_agent.images.model import Task
from storpool_agent.images.tools import ImageTools
from storpool_agent.interrupt import Interrupt

DIRECTIONS = {
    "file to device": ("file", "device"),
    "qcow2 to device": ("qcow2", "device"),
    "device to device": ("device", "device"),
    "device to qcow2": ("device", "qcow2"),
    "device to raw file": ("device", "raw"),
}
SLOW_BY_DEFAULT = ("qcow2 to device", "device to device", "device to raw file")
"""Where the flags matter; elsewhere both wait for the same disk."""
BEST, DEFAULTS, FLOOR = Goal("<=", 1 / 0.97), Goal("<=", 0.5), "dd direct of the data"
MOST_RSS_MIB = Goal("<=", 64, of="agent")
RSS_INTERVAL_S = 0.02
TOOLS = ImageTools()


@dataclass(frozen=True)
class Cost:
    """Of one copy, flushed."""

    wall_s: float
    cpu_s: float
    """Of the children, user and system."""
    rss_mib: float
    """The most that the children had at once."""
    verify_s: float = 0.0


def figures(rounds: int, size_bytes: int) -> list[Figure]:
    with TemporaryDirectory(prefix="spagent-bench-") as directory:
        stage = Stage(Path(directory), size_bytes)
        with stage.running():
            return [figure for name in DIRECTIONS for figure in _direction(stage, name, rounds)]


def _direction(stage: Stage, name: str, rounds: int) -> list[Figure]:
    kinds = DIRECTIONS[name]
    contenders: dict[str, Callable[[], Cost]] = {
        "tools": partial(_by_tools, stage, *kinds),
        "flags": partial(_by, stage, *kinds, _best_flags),
        "defaults": partial(_by, stage, *kinds, _default_flags),
        "floor": partial(_by, stage, *kinds, _bare),
    }
    costs = interleaved(contenders, rounds, warm_up=False)
    wall = {contender: [cost.wall_s for cost in each] for contender, each in costs.items()}
    cpu = {contender: [cost.cpu_s for cost in each] for contender, each in costs.items()}
    goal = DEFAULTS if name in SLOW_BY_DEFAULT else None
    return [
        compared(name, "time", "s", wall["tools"], wall["flags"], "qemu-img, best flags", BEST),
        compared(name, "time", "s", wall["tools"], wall["defaults"], "qemu-img, defaults", goal),
        compared(name, "time", "s", wall["tools"], wall["floor"], FLOOR),
        compared(name, "CPU", "s", cpu["tools"], cpu["flags"], "qemu-img, best flags"),
        compared(name, "CPU", "s", cpu["tools"], cpu["defaults"], "qemu-img, defaults"),
        alone(name, "peak RSS of the children", "MiB", [cost.rss_mib for cost in costs["tools"]], MOST_RSS_MIB),
        alone(name, "verification (block hash)", "s", [cost.verify_s for cost in costs["tools"]]),
    ]


def _by_tools(stage: Stage, source_kind: str, target_kind: str) -> Cost:
    task = Task(Interrupt(), lambda _done, _total: None, io_priority="normal")
    try:
        with stage.target(target_kind) as place, stage.sources[source_kind].opened() as source:
            with place.opened() as target:
                looked_into = replace(source, virtual_size_bytes=stage.size_bytes)  # as every foreign image is
                cost = _measured(lambda: TOOLS.convert(looked_into, target, task, zeroed=True))
                started = perf_counter()
                TOOLS.block_hash(target, stage.size_bytes, task)
                return Cost(cost.wall_s, cost.cpu_s, cost.rss_mib, perf_counter() - started)
    finally:
        task.interrupt.close()


Commands = Callable[[Stage, Place, Place], list[tuple[str, ...]]]


def _by(stage: Stage, source_kind: str, target_kind: str, commands: Commands) -> Cost:
    with stage.target(target_kind) as place:
        listed = commands(stage, stage.sources[source_kind], place)
        return _measured(lambda: [tool(*command) for command in listed])


def _best_flags(stage: Stage, source: Place, target: Place) -> list[tuple[str, ...]]:
    flags = ("-n", "-T", "none", "-t", "none", "--target-is-zero", *(("-W",) if target.format == "raw" else ()))
    create = ("qemu-img", "create", "-q", "-f", target.format, target.path, str(stage.size_bytes))
    copy = ("qemu-img", "convert", *flags, "-f", source.format, "-O", target.format, source.path, target.path)
    return [copy] if target.device else [create, copy]


def _default_flags(stage: Stage, source: Place, target: Place) -> list[tuple[str, ...]]:
    """Their flush included, which they leave out."""
    flags = ("-n",) if target.device else ()
    copy = ("qemu-img", "convert", *flags, "-f", source.format, "-O", target.format, source.path, target.path)
    return [copy, ("sync", target.path)]


def _bare(stage: Stage, source: Place, target: Place) -> list[tuple[str, ...]]:
    flags = ("iflag=direct", "oflag=direct", "bs=1M", "conv=fsync,notrunc", "status=none")
    return [("dd", f"if={stage.dense}", f"of={target.path}", *flags)]


def _measured(copy: Callable[[], object]) -> Cost:
    peak_mib, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(RSS_INTERVAL_S):
            peak_mib[0] = max(peak_mib[0], family())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    try:
        copy()
    finally:
        wall_s, after = perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        done.set()
        watcher.join()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_s, cpu_s, peak_mib[0])


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--size-mib", default=4096, show_default=True, help="Of each disk; a quarter of it is data.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Also write this file.")
def main(rounds: int, size_mib: int, json_file: Path | None) -> None:
    """Ratios of the agent's copies against qemu-img and bare devices. Needs root, and three times the data as room."""
    where = report.setting()
    measured = [*figures(rounds, size_mib * MIB), *copy_jobs.figures(rounds, size_mib * MIB)]
    report.show(measured, where)
    if json_file is not None:
        report.write(measured, where, json_file)


if __name__ == "__main__":
    main()
