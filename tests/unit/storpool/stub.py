# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A server on loopback that says what no StorPool says."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from threading import Thread

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[str]:
    """Its address; `serve` gets each connection after its request was read."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=_run, args=(listening, serve), name="stub")
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def answering(body: bytes, head: bytes = b"HTTP/1.0 200 OK\r\n") -> Serve:
    return lambda connection: connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def _run(listening: socket.socket, serve: Serve) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:  # shut down
            return
        with connection, contextlib.suppress(OSError):  # the client may hang up
            connection.recv(65536)
            serve(connection)
