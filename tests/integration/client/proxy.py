# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A wire to the broker that a test can stop, in one direction, or cut."""

import select
import socket
import ssl
from threading import Event, Thread
from typing import Self

BROKER = ("127.0.0.1", 5672)
LOOK_S = 0.02
JOIN_TIMEOUT_S = 5.0


class Proxy:
    """Forwards TCP to the broker, in one thread."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peers: dict[socket.socket, socket.socket] = {}
        self._from_broker: set[socket.socket] = set()
        self._cut = Event()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="proxy")
        self.mute = Event()
        """While set, what the broker says is kept back."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(JOIN_TIMEOUT_S)
        assert not self._thread.is_alive()

    def through(self, url: str) -> str:
        """The URL by way of this proxy."""
        if self._tls is not None:
            url = url.replace("amqp:", "amqps:")
        return url.replace("127.0.0.1:5672", f"127.0.0.1:{self._listener.getsockname()[1]}")

    def cut(self) -> None:
        """Ends all connections. New ones are forwarded, both ways."""
        self._cut.set()

    def _run(self) -> None:
        with self._listener:
            while not self._stopping.is_set():
                self._turn()
            self._close(list(self._peers))

    def _turn(self) -> None:
        if self._cut.is_set():
            self._close(list(self._peers))
            self.mute.clear()
            self._cut.clear()
        heard = [wire for wire in self._peers if not (self.mute.is_set() and wire in self._from_broker)]
        for wire in select.select([self._listener, *heard], [], [], LOOK_S)[0]:
            if wire is self._listener:
                self._connect()
            elif wire in self._peers:
                self._forward(wire)

    def _connect(self) -> None:
        client, _ = self._listener.accept()
        if self._tls is not None:
            client.settimeout(JOIN_TIMEOUT_S)
            try:
                client = self._tls.wrap_socket(client, server_side=True)
            except OSError:  # it does not trust us, or we do not trust it
                client.close()
                return
        broker = socket.create_connection(BROKER, timeout=JOIN_TIMEOUT_S)
        self._peers |= {client: broker, broker: client}
        self._from_broker.add(broker)

    def _forward(self, wire: socket.socket) -> None:
        try:
            if data := _heard(wire):
                self._peers[wire].sendall(data)
                return
        except OSError:
            pass  # one side has gone: the other has to
        self._close([wire, self._peers[wire]])

    def _close(self, wires: list[socket.socket]) -> None:
        for wire in wires:
            self._peers.pop(wire, None)
            self._from_broker.discard(wire)
            wire.close()


def _heard(wire: socket.socket) -> bytes:
    """All that has arrived: select does not see what TLS has already read."""
    data = wire.recv(65536)
    while isinstance(wire, ssl.SSLSocket) and wire.pending():
        data += wire.recv(65536)
    return data
