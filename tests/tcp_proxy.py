# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A wire that a test can cut and heal, between two processes that know nothing of it."""

import select
import socket
from threading import Event, Thread
from typing import Self

LOOK_S = 0.02
JOIN_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 5.0


class TcpProxy:
    """Forwards TCP to `upstream`, in a thread of its own. While it is cut, connections are refused."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._peers: dict[socket.socket, socket.socket] = {}
        self._wanted_down = Event()
        self._is_down = Event()
        self._is_up = Event()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="tcp proxy")

    def __enter__(self) -> Self:
        self._is_up.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(JOIN_TIMEOUT_S)
        assert not self._thread.is_alive()

    def cut(self) -> None:
        """End all connections and refuse new ones. It is so when this returns."""
        self._is_up.clear()
        self._wanted_down.set()
        assert self._is_down.wait(JOIN_TIMEOUT_S)

    def heal(self) -> None:
        """Take connections again, at the same port."""
        self._is_down.clear()
        self._wanted_down.clear()
        assert self._is_up.wait(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._wanted_down.is_set():
                    self._stay_down()
                else:
                    self._turn()
        finally:
            self._close(list(self._peers))
            self._listener.close()

    def _stay_down(self) -> None:
        self._close(list(self._peers))
        self._listener.close()
        self._is_down.set()
        while self._wanted_down.is_set():
            if self._stopping.wait(LOOK_S):
                return
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._is_up.set()

    def _turn(self) -> None:
        for wire in select.select([self._listener, *self._peers], [], [], LOOK_S)[0]:
            if wire is self._listener:
                self._connect()
            elif wire in self._peers:
                self._forward(wire)

    def _connect(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(self._upstream, CONNECT_TIMEOUT_S)
        self._peers |= {near: far, far: near}

    def _forward(self, wire: socket.socket) -> None:
        try:
            data = wire.recv(65536)
            if data:
                self._peers[wire].sendall(data)
                return
        except OSError:
            pass  # one side has gone: the other has to
        self._close([wire, self._peers[wire]])

    def _close(self, wires: list[socket.socket]) -> None:
        for wire in wires:
            self._peers.pop(wire, None)
            wire.close()
