# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Digests of what is in an image, and of a file as it is: made by a Python program in a child of its own.

It is a child so that it can be ended at any moment, has its own priority, and does not take the agent's interpreter
lock. It imports next to nothing, and begins to read after 50 ms.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from storpool_agent.errors import InvalidCommand
from storpool_agent.images import blame, nodes
from storpool_agent.images.child import Command, ToolFailed, run
from storpool_agent.images.launch import Limits
from storpool_agent.images.model import Image, Task
from storpool_agent.images.worker import ALGORITHMS

PACKAGES = Path(__file__).parents[2]
"""Where `storpool_agent` is: the child's own directory, since it has no PYTHONPATH and reads no site-packages."""
LIMITS = Limits(address_space_bytes=8 << 30)
"""Inherited by qemu-nbd. Besides 4 MiB of buffers, a disk of 1 TiB has 32 MiB of digests."""


def block_hash(image: Image, size_bytes: int, task: Task) -> str:
    """See Images.block_hash. Raises CopyFailed when the image ends before `size_bytes`."""
    node = nodes.source(image) if image.format == "qcow2" or image.luks is not None else ""
    limit = str(task.bandwidth_bytes_s or 0)
    digest = _run("blocks", image, task, str(size_bytes), limit, node, _key(image), total_bytes=size_bytes)
    return f"sha256-1m:{digest}"


def checksum(image: Image, algorithm: str, task: Task) -> str:
    """See Images.checksum."""
    if algorithm not in ALGORITHMS:
        raise InvalidCommand(f"no checksum is called {algorithm!r}; there are {', '.join(ALGORITHMS)}")
    return f"{algorithm}:{_run('whole', image, task, algorithm, total_bytes=None)}"


def _run(module: str, image: Image, task: Task, *arguments: str, total_bytes: int | None) -> str:
    access = "direct" if nodes.direct(image) else "cached"
    program = (sys.executable, "-E", "-s", "-S", "-m", f"storpool_agent.images.worker.{module}")
    command = Command(
        (*program, str(image.descriptor), access, *arguments),
        f"reading {image.name}",
        files=nodes.files(image),
        limits=LIMITS,
        directory=PACKAGES,
    )
    answer = _Answer(task.report, total_bytes)
    try:
        run(command, task, answer.hear)
    except ToolFailed as failed:
        raise blame.of_reading(failed, image) from failed
    return answer.digest


def _key(image: Image) -> str:
    return "" if image.luks is None else str(image.luks)


class _Answer:
    """Lines `of BYTES`, `done BYTES`, and at last `digest HEX`."""

    def __init__(self, report: Callable[[int, int | None], None], total_bytes: int | None) -> None:
        self._report, self._total_bytes = report, total_bytes
        self.digest = ""

    def hear(self, line: str) -> None:
        word, _, value = line.partition(" ")
        if word == "of":
            self._total_bytes = int(value)
        elif word == "done":
            self._report(int(value), self._total_bytes)
        elif word == "digest":
            self.digest = value
