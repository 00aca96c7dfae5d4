# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The one door to child processes of this package: one command, run to its end, watched all the time.

The thread that calls `run` waits in it. Whatever makes it return, nothing of the child is left running, but for a
process that the kernel itself cannot end (state D), about which it then says so.
"""

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from storpool_agent.errors import CopyFailed, CopyStalled
from storpool_agent.images.launch import Limits, prefix
from storpool_agent.images.model import Task
from storpool_agent.images.process import Process

LOOK_INTERVAL_S = 2.0
"""Between two looks whether bytes still move."""
LONGEST_S = float("inf")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ToolFailed(CopyFailed):
    """A tool did not succeed. Who started it may know more, and raise something better from it."""

    def __init__(self, message: str, status: int, said: str, tool: str) -> None:
        super().__init__(message, tool=tool, status=status, said=said)
        self.status = status
        """Its exit status; negative for the signal that ended it."""
        self.said = said
        """The end of its stderr, in one line."""


@dataclass(frozen=True)
class Command:
    """What is run, and what it gets from us. It is given nothing else: no environment, no stdin, no other files."""

    argv: Sequence[str]
    subject: str
    """For messages: what is done to which image, as in `converting template.qcow2`."""
    files: Mapping[int, str] = field(default_factory=dict[int, str])
    """The descriptors that it inherits under the same numbers, and what messages call them."""
    limits: Limits = field(default_factory=Limits)
    network: bool = False
    timeout_s: float | None = None
    """For what is short by nature; what is not has the task's stall timeout alone."""
    directory: Path = Path("/")
    output: int | None = None
    """The descriptor that is its stdout; None: a pipe, whose lines are heard."""

    @property
    def tool(self) -> str:
        return Path(self.argv[0]).name


def nobody(line: str) -> None:
    """Listens to no line."""


def run(command: Command, task: Task, on_line: Callable[[str], None] = nobody) -> str:
    """Run it to its end; `on_line` gets each line of its stdout, in this thread. Returns the end of its stderr.

    Raises ToolFailed, CopyStalled (nothing moved for the task's time: no byte read or written, no other line said; or
    the command's own time is over), and what the task is interrupted with. An exception of `on_line` ends it, too.
    """
    task.interrupt.check()
    process = _started(command, task, on_line)
    try:
        _watch(process, command, task)
    except BaseException:
        if not process.ended_by_force():
            raise CopyStalled(
                f"{command.subject}: {command.tool} hangs in the kernel (pid {process.pid}) and could not be ended; its"
                " storage does not answer",
                pid=process.pid,
            ) from None
        raise
    finally:
        process.close()
    said = process.errors.shown(command.files)
    if process.status != 0:
        raise _failed(command, process.status, said)
    return said


def output(command: Command, task: Task, *, max_bytes: int) -> str:
    """What it says on stdout. Raises as `run`, and ToolFailed when that is too much."""
    lines: list[str] = []
    left = max_bytes

    def keep(line: str) -> None:
        nonlocal left
        left -= len(line)
        if left < 0:
            raise ToolFailed(f"{command.subject}: {command.tool} says more than {max_bytes} bytes", 0, "", command.tool)
        lines.append(line)

    run(command, task, keep)
    return "\n".join(lines)


def _started(command: Command, task: Task, on_line: Callable[[str], None]) -> Process:
    argv = [*prefix(task.io_priority, command.limits, network=command.network), *command.argv]
    try:
        popen = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if command.output is None else command.output,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={"LC_ALL": "C", "PATH": PATH},
            cwd=command.directory,
            pass_fds=tuple(command.files),
            process_group=0,
        )
    except OSError as error:
        raise CopyFailed(f"{command.subject}: {argv[0]} cannot be started: {error.strerror}", tool=argv[0]) from error
    return Process(popen, on_line)


def _watch(process: Process, command: Command, task: Task) -> None:
    """Until it has ended by itself."""
    process.also_wake_for(task.interrupt.fileno())
    started = moved = now = monotonic()
    signs = process.signs_of_life()
    longest_s = LONGEST_S if command.timeout_s is None else command.timeout_s
    while not process.step(task.interrupt.within(min(LOOK_INTERVAL_S, task.stall_timeout_s / 4, longest_s))):
        task.interrupt.check()
        now = monotonic()
        before, signs = signs, process.signs_of_life()
        if signs != before:
            moved = now
        if now - moved >= task.stall_timeout_s:
            raise CopyStalled(
                f"{command.subject}: not a byte has moved for {task.stall_timeout_s:g} s; {command.tool} was ended",
                stall_timeout_s=task.stall_timeout_s,
            )
        if now - started >= longest_s:
            raise CopyStalled(f"{command.subject}: {command.tool} was not done within {longest_s:g} s")


def _failed(command: Command, status: int, said: str) -> ToolFailed:
    how = f"failed with status {status}" if status > 0 else f"was ended by {_signal_name(-status)}"
    why = f": {said}" if said else ""
    return ToolFailed(f"{command.subject}: {command.tool} {how}{why}", status, said, command.tool)


def _signal_name(number: int) -> str:
    return next((one.name for one in signal.Signals if one == number), f"signal {number}")
