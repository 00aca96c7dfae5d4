# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Work that takes long, as those who do it see it."""

from collections.abc import Callable
from dataclasses import dataclass

from storpool_agent.interrupt import Interrupt
from storpool_commands.images import IoPriority


@dataclass(frozen=True)
class Task:
    """How a job is run, and who watches it.

    `report` is called with bytes done and bytes in all (None when that is not known), as often as there is news,
    in the thread that made the call; it is for whoever is called to pass on no more than is wanted.
    """

    interrupt: Interrupt
    report: Callable[[int, int | None], None]
    bandwidth_bytes_s: int | None = None
    io_priority: IoPriority = "low"
    stall_timeout_s: float = 120.0
