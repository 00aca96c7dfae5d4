# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the image tools work on: tasks, and disks with known contents."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from storpool_agent.images.model import Task
from storpool_agent.interrupt import Interrupt


@dataclass
class Watched:
    """A task, and what was reported of it."""

    interrupt: Interrupt
    reports: list[tuple[int, int | None]] = field(default_factory=list)

    @property
    def task(self) -> Task:
        return Task(self.interrupt, lambda done, total: self.reports.append((done, total)), io_priority="normal")

    def with_stall_timeout(self, timeout_s: float) -> Task:
        return replace(self.task, stall_timeout_s=timeout_s)


@contextmanager
def watched(interrupt: Interrupt | None = None) -> Iterator[Watched]:
    used = interrupt or Interrupt()
    try:
        yield Watched(used)
    finally:
        used.close()
