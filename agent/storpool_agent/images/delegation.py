# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Work that is done in a child written in Python: started, heard, and its refusals raised as the agent's errors."""

import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storpool_agent import errors
from storpool_agent.errors import AgentError, CopyFailed, ImageRefused
from storpool_agent.images import child
from storpool_agent.images.child import Command, ToolFailed
from storpool_agent.images.launch import Limits
from storpool_agent.images.model import Task

ADDRESS_SPACE_BYTES = 1 << 30
DIRECTORY = Path(errors.__file__).parents[1]
"""Where the package is: a child finds it there, whatever the agent was started with."""

_ERRORS: Mapping[str, type[AgentError]] = {
    one.code: one
    for one in (
        errors.CopyFailed,
        errors.DownloadFailed,
        errors.ImageFormatMismatch,
        errors.ImageNotFound,
        errors.ImageRefused,
        errors.ImageTooLarge,
        errors.ScratchFull,
        errors.SecondaryNotAllowed,
        errors.SecondaryUnavailable,
    )
}


@dataclass(frozen=True)
class Work:
    """What a child is to do."""

    worker: str
    """A module of `foreign`."""
    arguments: Sequence[str]
    """Anybody on this host can read them."""
    subject: str
    """For messages."""
    files: Mapping[int, str]
    limits: Limits
    network: bool = False
    """And site-packages, where urllib3 is."""

    @property
    def command(self) -> Command:
        interpreter = (sys.executable, "-E", "-s", *(() if self.network else ("-S",)))
        argv = (*interpreter, "-m", f"{__package__}.foreign.{self.worker}", *self.arguments)
        return Command(argv, self.subject, self.files, self.limits, self.network, directory=DIRECTORY)


def delegate(work: Work, task: Task, report: Callable[[int, int | None], None]) -> Mapping[str, Any]:
    """Have it done; its result. Raises what it was refused with, and what `child.run` does."""
    answer = _Answer(work, report)
    try:
        child.run(work.command, task, answer.hear)
    except ToolFailed as error:
        if error.status == -signal.SIGXCPU:
            raise ImageRefused(
                f"{work.subject}: it takes more than {work.limits.cpu_s} s of a processor's time, out of all proportion"
            ) from error
        raise
    return answer.result()


class _Answer:
    def __init__(self, work: Work, report: Callable[[int, int | None], None]) -> None:
        self._work, self._report = work, report
        self._said: Mapping[str, Any] = {}

    def hear(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            raise self._not_understood() from None
        if "done" in said:
            self._report(said["done"], said["total"])
        else:
            self._said = said

    def result(self) -> Mapping[str, Any]:
        if "refused" in self._said:
            kind = _ERRORS[self._said["refused"]]
            raise kind(f"{self._work.subject}: {self._said['message']}", **self._said["facts"])
        if "result" not in self._said:
            raise self._not_understood()
        return dict(self._said["result"])

    def _not_understood(self) -> CopyFailed:
        return CopyFailed(f"{self._work.subject}: the agent's own {self._work.worker} does not answer as it should")
