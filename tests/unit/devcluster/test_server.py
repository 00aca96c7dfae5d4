# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The HTTP server on a real socket."""

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from storpool_devcluster.server import MAX_BODY_BYTES, Reply, Request, Server


def echo(request: Request) -> Reply:
    if request.target == "/slow":
        time.sleep(1.0)
    return Reply(200, request.method.encode() + b" " + request.target.encode() + b" " + request.body)


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(*, keep_alive: bool = False) -> Server:
        servers.append(Server(("127.0.0.1", 0), echo, keep_alive=keep_alive))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def raw(server: Server, content: bytes) -> bytes:
    host, _, port = server.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(content)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def test_it_answers_as_storpool_does_and_closes(make_server: Callable[..., Server]) -> None:
    answer = raw(make_server(), b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n")
    assert answer.endswith(b"Content-Length: 7\r\n\r\nGET /x ")


def test_it_keeps_connections_open_when_told_to(make_server: Callable[..., Server]) -> None:
    server = make_server(keep_alive=True)
    connection = http.client.HTTPConnection(server.address, timeout=5)
    for number in range(3):
        connection.request("POST", f"/{number}", b"body")
        assert connection.getresponse().read() == f"POST /{number} body".encode()
    connection.close()


def test_a_body_may_come_in_pieces(make_server: Callable[..., Server]) -> None:
    host, _, port = make_server().address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        for piece in (b"POST /x HTTP/1.0\r\nContent-Le", b"ngth: 4\r\n\r\n", b"bo", b"dy"):
            connection.sendall(piece)
            time.sleep(0.02)
        assert connection.recv(65536).endswith(b"POST /x body")


@pytest.mark.parametrize(
    "request_head",
    [
        pytest.param(b"nonsense\r\n\r\n", id="no request line"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), id="too long"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", id="chunked"),
    ],
)
def test_what_is_not_understood_is_a_bad_request(make_server: Callable[..., Server], request_head: bytes) -> None:
    assert raw(make_server(), request_head).startswith(b"HTTP/1.0 400 ")


def test_slow_requests_do_not_hold_up_others(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with ThreadPoolExecutor(20) as threads:
        slow = [threads.submit(raw, server, b"GET /slow HTTP/1.0\r\n\r\n") for _ in range(19)]
        time.sleep(0.05)
        assert raw(server, b"GET /quick HTTP/1.0\r\n\r\n").endswith(b"GET /quick ")
        assert not any(answer.done() for answer in slow)
        assert all(answer.result().endswith(b"GET /slow ") for answer in slow)


def test_it_answers_what_is_under_way_before_it_stops(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(raw, server, b"GET /slow HTTP/1.0\r\n\r\n")
        time.sleep(0.1)
        server.stop()
        assert answer.result().endswith(b"GET /slow ")


def test_it_keeps_its_port_while_it_refuses(make_server: Callable[..., Server]) -> None:
    server = make_server()
    host, _, port = server.address.partition(":")
    server.refuse(0.3)
    with pytest.raises(ConnectionRefusedError):
        raw(server, b"GET / HTTP/1.0\r\n\r\n")
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind((host, int(port)))
    time.sleep(0.4)
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"GET / ")
