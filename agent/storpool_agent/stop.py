# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Signals, without losing one and without blocking any."""

import os
import select
import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNAL = signal.SIGHUP


class StopSignal:
    """Install early, wait late: a signal that comes in between is not lost.

    The signals are not blocked, because a blocked signal stays blocked across exec, and a child such as qemu-img
    could then not be terminated.
    """

    def __init__(self) -> None:
        self._reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        for number in (*STOP_SIGNALS, RELOAD_SIGNAL):
            signal.signal(number, _wake)

    def wait(self, timeout_s: float) -> signal.Signals | None:
        """The next signal, None when none came in time. Call from the main thread only."""
        if not self._poll.poll(timeout_s * 1000):
            return None
        return signal.Signals(os.read(self._reader, 1)[0])


def _wake(_number: int, _frame: object) -> None:
    """The wakeup descriptor has told `wait` already."""
