# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A child process with its pipes: waited for without looking again and again, and ended for certain."""

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from storpool_agent.images.said import Lines, Tail

READ_BYTES = 64 * 1024
TERM_GRACE_S = 2.0
"""qemu-img is gone 6 ms after SIGTERM; one that is in the kernel then gets no second chance from waiting longer."""
KILL_GRACE_S = 30.0
"""What does not die of SIGKILL waits for its storage in the kernel."""
ORPHAN_GRACE_S = 1.0
"""A child of the child's that is still there after it; none should be."""
IO_COUNTERS = ("rchar", "wchar", "read_bytes", "write_bytes")

Signs = tuple[int, str]


class Process:
    """Over when the process has ended and nobody holds its pipes any more. For one thread."""

    def __init__(self, popen: "subprocess.Popen[bytes]", on_line: Callable[[str], None]) -> None:
        self._popen = popen
        self.lines, self.errors = Lines(on_line), Tail()
        heard = ((popen.stdout, self.lines.feed), (popen.stderr, self.errors.feed))
        self._pipes: dict[int, Callable[[bytes], None]] = {
            pipe.fileno(): feed for pipe, feed in heard if pipe is not None
        }
        self._pidfd = os.pidfd_open(popen.pid)
        self._ended_at: float | None = None
        self._poll = select.poll()
        for descriptor in (self._pidfd, *self._pipes):
            self._poll.register(descriptor, select.POLLIN)
        self._alarm: int | None = None

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def status(self) -> int:
        """Of one that is over, as subprocess gives it."""
        return self._popen.wait()

    def also_wake_for(self, descriptor: int) -> None:
        """Have `step` return, too, when this is readable."""
        self._alarm = descriptor
        self._poll.register(descriptor, select.POLLIN)

    def step(self, timeout_s: float) -> bool:
        """Wait once for news, and pass them on. Whether it is over."""
        for descriptor, _ in self._poll.poll(timeout_s * 1000):
            if descriptor in self._pipes:
                self._read(descriptor)
            elif descriptor == self._pidfd:
                self._ended_at = monotonic()
                self._poll.unregister(descriptor)
        if self._ended_at is None:
            return False
        if self._pipes and monotonic() - self._ended_at > ORPHAN_GRACE_S:
            self._signal(signal.SIGKILL)
        if not self._pipes:
            self.lines.end()
        return not self._pipes

    def signs_of_life(self) -> Signs:
        """Other ones than before: bytes have moved, or it has said something new."""
        counters: dict[str, int] = {}
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            for line in Path(f"/proc/{self.pid}/io").read_text().splitlines():
                name, _, value = line.partition(": ")
                counters[name] = int(value)
        return sum(counters.get(name, 0) for name in IO_COUNTERS), self.lines.last

    def ended_by_force(self) -> bool:
        """Whether it could be ended. What it still says is not passed on."""
        if self._alarm is not None:
            self._poll.unregister(self._alarm)
            self._alarm = None
        for number, grace_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, KILL_GRACE_S)):
            if self._over_after(number, grace_s):
                return True
        return False

    def close(self) -> None:
        """Call it last. One that could not be ended is waited for by a thread that nobody waits for."""
        os.close(self._pidfd)
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()
        if self._ended_at is not None:
            self._popen.wait()
        else:
            threading.Thread(target=self._popen.wait, name=f"hung child {self.pid}", daemon=True).start()

    def _over_after(self, number: signal.Signals, grace_s: float) -> bool:
        self.lines = Lines(_unheard)
        self._pipes = dict.fromkeys(self._pipes, _unheard)
        self._signal(number)
        ends_at = monotonic() + grace_s
        over = self._ended_at is not None and not self._pipes
        while not over and monotonic() < ends_at:
            over = self.step(ends_at - monotonic())
        return over

    def _signal(self, number: signal.Signals) -> None:
        """To its process group: its number belongs to nobody else before the process is waited for."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _read(self, descriptor: int) -> None:
        data = os.read(descriptor, READ_BYTES)
        if data:
            self._pipes[descriptor](data)
        else:
            self._poll.unregister(descriptor)
            del self._pipes[descriptor]


def _unheard(_: object) -> None: ...
