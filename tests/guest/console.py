# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The host's end of the guest's console: a virtio port on a unix socket. `init` describes the protocol."""

import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

CONNECT_TIMEOUT_S = 10.0


class CommandFailed(Exception):
    """The guest could not do what it was asked; the message is its own."""


class NoAnswer(Exception):
    """The guest did not answer in time, or is gone."""


class Console:
    """One request at a time. An answer that comes after its request was given up is dropped by its id."""

    def __init__(self, path: Path) -> None:
        self._ids = count(1)
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(CONNECT_TIMEOUT_S)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, request: str, timeout_s: float) -> list[str]:
        """The lines of the guest's answer."""
        deadline = monotonic() + timeout_s
        request_id = str(next(self._ids))
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(f"{request_id} {request}\n".encode())
            return list(self._answer(request_id, deadline))
        except OSError as error:
            raise NoAnswer(f"{request!r}: no answer within {timeout_s} s ({error})") from error

    def _answer(self, request_id: str, deadline: float) -> Iterator[str]:
        while True:
            answered, _, rest = self._line(deadline).partition(" ")
            kind, _, text = rest.partition(" ")
            if answered != request_id:
                continue
            if kind == "ok":
                return
            if kind == "failed":
                raise CommandFailed(text.strip())
            yield text

    def _line(self, deadline: float) -> str:
        while b"\n" not in self._received:
            self._socket.settimeout(max(deadline - monotonic(), 0.001))
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionResetError("the guest's console was closed")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")
