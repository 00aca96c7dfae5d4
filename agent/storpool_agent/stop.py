# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Signals, without losing one and without blocking any."""

import os
import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Install early, wait late: a signal that comes in between is not lost.

    The signals are not blocked, because a blocked signal stays blocked across exec, and a child such as qemu-img
    could then not be terminated.
    """

    def __init__(self) -> None:
        self._reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in STOP_SIGNALS:
            signal.signal(number, _wake)

    def wait(self) -> signal.Signals:
        """Call from the main thread only."""
        return signal.Signals(os.read(self._reader, 1)[0])


def _wake(_number: int, _frame: object) -> None:
    """The wakeup descriptor has told `wait` already."""
