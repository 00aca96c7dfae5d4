# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The table, the same as JSON, and where it was made."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import libvirt
from rich.console import Console
from rich.table import Table

from bench.figures import Figure
from rabbit import rabbitmqctl

MET = {True: "[green]yes", False: "[red]no", None: ""}
GIT_TIMEOUT_S = 10.0


def setting() -> dict[str, str]:
    """The machine and the versions; the figures mean nothing elsewhere, the ratios little less."""
    connection = libvirt.open("qemu:///system")
    try:
        hypervisor, qemu = connection.getLibVersion(), connection.getVersion()
    finally:
        connection.close()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "load": " ".join(f"{one:.1f}" for one in os.getloadavg()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rabbitmq": rabbitmqctl("version").strip(),
        "libvirt": _dotted(hypervisor),
        "qemu": _dotted(qemu),
        "pika": version("pika"),
    }


def show(figures: Sequence[Figure], where: Mapping[str, str]) -> None:
    table = Table(title="storpool-agent over its floors", caption=", ".join(f"{k} {v}" for k, v in where.items()))
    table.add_column("figure")
    table.add_column("agent", justify="right")
    table.add_column("against")
    table.add_column("floor", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("goal", justify="right")
    table.add_column("met?")
    for before, figure in zip([None, *figures], figures, strict=False):
        if before is not None and before.part != figure.part:
            table.add_section()
        table.add_row(*_row(figure))
    Console(width=max(Console().width, 140)).print(table)


def write(figures: Sequence[Figure], where: Mapping[str, str], path: Path) -> None:
    listed = [{**asdict(figure), "met": figure.met} for figure in figures]
    path.write_text(json.dumps({"setting": dict(where), "figures": listed}, indent=2) + "\n")


def _row(figure: Figure) -> list[str]:
    goal = figure.goal
    bound = "" if goal is None else f"{goal.relation} {goal.bound:g}"
    if goal is not None and goal.of == "agent":
        bound += f" {figure.unit}"
    return [
        f"{figure.part}  {figure.name}",
        _value(figure.agent, figure.unit),
        figure.floor_name,
        "" if figure.floor is None else _value(figure.floor, figure.unit),
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        bound,
        MET[figure.met],
    ]


def _value(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _dotted(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=GIT_TIMEOUT_S,
    )
    return done.stdout.strip() or "unknown"
