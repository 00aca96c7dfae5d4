# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""systemd's side of sd_notify(3): the socket that a service tells how it is."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 30.0


class NotifySocket:
    """What a service has said, line by line, in order."""

    def __init__(self, path: Path, watchdog_s: float) -> None:
        self.path = path
        self.environment: Mapping[str, str] = {
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": str(int(watchdog_s * 1_000_000)),
        }
        self.said: list[str] = []
        self._read = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(str(path))

    def forget(self) -> None:
        """Leave out what was said so far."""
        self._take(0)
        self._read = len(self.said)

    def listen(self, for_s: float) -> list[str]:
        """What is said from now on, for so long."""
        self.forget()
        before = self._read
        self._take(for_s)
        self._read = len(self.said)
        return self.said[before:]

    def until(self, condition: Callable[[str], bool]) -> str:
        """The first line for which it holds, of those that were not looked at yet."""
        give_up_at = time.monotonic() + WAIT_S
        while True:
            while self._read < len(self.said):
                self._read += 1
                if condition(self.said[self._read - 1]):
                    return self.said[self._read - 1]
            assert time.monotonic() < give_up_at, f"not said; last: {self.said[-5:]}"
            self._take(0.05)

    def _take(self, for_s: float) -> None:
        give_up_at = time.monotonic() + for_s
        while True:
            self._socket.settimeout(max(0.001, give_up_at - time.monotonic()))
            try:
                self.said += self._socket.recv(65536).decode().splitlines()
            except TimeoutError:
                return

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


@contextmanager
def notify_socket(directory: Path, watchdog_s: float) -> Iterator[NotifySocket]:
    opened = NotifySocket(directory / "notify", watchdog_s)
    try:
        yield opened
    finally:
        opened.close()
