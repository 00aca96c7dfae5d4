# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The load generator, seen from the benchmark."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import uuid4

from bench.children import Child, running


@dataclass(frozen=True)
class Run:
    """Requests that were sent and all answered."""

    elapsed_s: float
    latencies_ms: list[float]

    @property
    def typical_ms(self) -> float:
        return median(self.latencies_ms)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies_ms) / self.elapsed_s


def measured(child: Child, job: Mapping[str, Any]) -> Run:
    """Raises RuntimeError when a request failed: then the figure would mean nothing."""
    answer = child.ask(job)
    if answer["failures"]:
        raise RuntimeError(f"requests failed: {answer['failures']}")
    return Run(answer["elapsed_s"], answer["latencies_ms"])


class Load:
    """Sends commands to hosts."""

    def __init__(self, generator: Child) -> None:
        self._generator = generator

    def send(self, host: str, *commands: Mapping[str, Any], repeat: int = 1, window: int = 1) -> Run:
        job = {"host": host, "commands": commands, "repeat": repeat, "window": window}
        return measured(self._generator, job)

    def send_all(self, host: str, commands: Sequence[Mapping[str, Any]]) -> Run:
        """All of them at once."""
        return self.send(host, *commands, window=len(commands))


@contextmanager
def load_on(amqp_url: str) -> Iterator[Load]:
    """The exchanges must be there: start an agent first."""
    with running("load_generator.py", amqp_url, f"bench-{uuid4().hex[:8]}") as generator:
        yield Load(generator)
