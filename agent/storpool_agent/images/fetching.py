# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Downloads, each in a child that has the network and nothing else."""

import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from storpool_agent.images.delegation import ADDRESS_SPACE_BYTES, Work, delegate
from storpool_agent.images.foreign.downloader import Job
from storpool_agent.images.foreign.web import shown
from storpool_agent.images.launch import Limits
from storpool_agent.images.model import Task

READ_TIMEOUT_S = 30.0
"""A connection that is silent for so long is given up, and another made: most often it is dead, the server is not."""


@dataclass(frozen=True)
class Origins:
    """Where downloads may come from, besides public addresses."""

    allowed_hosts: Sequence[str] = ()
    """Host names, addresses, networks."""
    authorities: Path | None = None
    """Certificates that sign those of servers. Default: the system's."""
    pause_s: float = 0.5
    """Before a second try."""


def fetch(url: str, target: int, task: Task, *, max_bytes: int, origins: Origins) -> None:
    """As Images.fetch says."""
    job = Job(
        url=url,
        allowed_hosts=list(origins.allowed_hosts),
        max_bytes=max_bytes,
        bytes_s=task.bandwidth_bytes_s,
        read_timeout_s=min(READ_TIMEOUT_S, task.stall_timeout_s / 3),
        pause_s=origins.pause_s,
        authorities=None if origins.authorities is None else str(origins.authorities),
    )
    limits = Limits(address_space_bytes=ADDRESS_SPACE_BYTES, file_bytes=max_bytes)
    with _secretly(job) as handed_over:
        delegate(
            Work(
                worker="downloader",
                arguments=(str(handed_over), str(target)),
                subject=f"downloading {shown(url)}",
                files={handed_over: "the job", target: "the download"},
                limits=limits,
                network=True,
            ),
            task,
            task.report,
        )


@contextmanager
def _secretly(job: Job) -> Generator[int]:
    """In a file of memory, without a name."""
    descriptor = os.memfd_create("job", os.MFD_CLOEXEC)
    try:
        os.pwrite(descriptor, json.dumps(asdict(job)).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)
