# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`make bench`: all figures in one run, as ratios against floors and peers that are measured in between.

What is slow is printed, never failed: a machine that is busy with something else must not turn a build red.
"""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import click

from bench import connecting, footprint, machine_disks, ping, report
from bench.figures import Figure

Part = Callable[[int], list[Figure]]

PARTS: dict[str, tuple[Part, int, int]] = {
    "a": (ping.figures, 7, 3),
    "b": (connecting.figures, 7, 3),
    "c": (machine_disks.figures, 15, 5),
    "d": (footprint.figures, 9, 3),
}
"""Each with its rounds, and its rounds when it is to be quick."""


@click.command()
@click.option("--only", default="a,b,c,d", show_default=True, help="Parts, separated by commas.")
@click.option("--quick", is_flag=True, help="Fewer rounds: to see that it works.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Also write this file.")
def main(only: str, quick: bool, json_file: Path | None) -> None:
    """Ratios of the agent against bare floors and peers. Needs root and the services of scripts/services."""
    where = report.setting()
    figures: list[Figure] = []
    for name in only.split(","):
        part, rounds, quick_rounds = PARTS[name]
        started = monotonic()
        figures += part(quick_rounds if quick else rounds)
        click.echo(f"part {name}: {monotonic() - started:.0f} s", err=True)
    report.show(figures, where)
    if json_file is not None:
        report.write(figures, where, json_file)


if __name__ == "__main__":
    main()
