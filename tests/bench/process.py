# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a process has used, as the kernel says."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int, *, children: bool = False) -> float:
    """User and system time of all its threads; with `children` also of those that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    used = fields[11:15] if children else fields[11:13]  # utime, stime, cutime, cstime: proc(5)
    return sum(map(int, used)) / TICKS_PER_S


def rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kib] = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return kib / 1024


def family() -> float:
    """MiB that all descendants of this process have by now; those that are just ending not."""
    return sum(_family_rss(os.getpid()))


def _family_rss(pid: int) -> Iterator[float]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            for child in map(int, task.read_text().split()):
                yield rss_mib(child)
                yield from _family_rss(child)
