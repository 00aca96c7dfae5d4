# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One HTTP exchange, with nothing sent twice. The only module that opens a connection.

StorPool closes the connection after each answer, so there is no pool to keep. Connecting is a step of its own:
what fails there was certainly not done, what fails later may have been.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from socket import socket
from typing import cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolBadAnswer, StorPoolTimeout, StorPoolUnavailable
from storpool_agent.storpool.address import Address

CONNECT_S = 3.0  # the API is on this host or one hop away
MAX_ANSWER = 64 * 1024 * 1024  # a list of 5,000 volumes is some 3 MiB


@dataclass(frozen=True)
class Sent:
    """A request as it goes out; `query` is what errors call it."""

    query: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


def exchange(address: Address, sent: Sent, deadline: Deadline) -> tuple[int, bytes]:
    """Send the request and read the answer: HTTP status and body.

    Raises StorPoolUnavailable (not sent), StorPoolTimeout (sent, no whole answer), StorPoolBadAnswer.
    """
    connection = _connect(address, sent, deadline)
    try:
        return _converse(connection, sent, deadline)
    except TimeoutError as error:
        raise StorPoolTimeout(
            f"StorPool at {address} did not answer {sent.query} in time: it may have been done or not",
            api=str(address),
            query=sent.query,
        ) from error
    except (OSError, HTTPException, HTTPError) as error:
        raise StorPoolTimeout(
            f"StorPool at {address} closed the connection before it had answered {sent.query} "
            f"({_reason(error)}): it may have been done or not",
            api=str(address),
            query=sent.query,
        ) from error
    finally:
        connection.close()


def _connect(address: Address, sent: Sent, deadline: Deadline) -> HTTPConnection:
    facts = {"api": str(address), "query": sent.query}
    timeout_s = min(CONNECT_S, deadline.remaining_s)
    if timeout_s <= 0:
        raise StorPoolUnavailable(f"no time is left to send {sent.query} to StorPool at {address}", **facts)
    kind = HTTPSConnection if address.tls else HTTPConnection
    connection = kind(address.host, address.port, timeout=timeout_s)
    try:
        connection.connect()
    except (OSError, HTTPError) as error:
        connection.close()
        raise StorPoolUnavailable(
            f"StorPool's API cannot be reached at {address} ({_reason(error)}): "
            "check that storpool_mgmt or its proxy runs there and that the address is right",
            **facts,
        ) from error
    return connection


def _converse(connection: HTTPConnection, sent: Sent, deadline: Deadline) -> tuple[int, bytes]:
    connection.timeout = _left(deadline)
    connection.request(sent.method, sent.path, body=sent.body or None, headers=sent.headers)
    with HTTPResponse(cast(socket, _Incoming(connection.sock, deadline)), method=sent.method) as response:
        response.begin()
        body = response.read(MAX_ANSWER + 1)
        if len(body) > MAX_ANSWER:
            raise StorPoolBadAnswer(
                f"StorPool's answer to {sent.query} is longer than {MAX_ANSWER} bytes", query=sent.query
            )
        if response.length:
            raise HTTPException(f"{response.length} bytes of the answer are missing")
        return response.status, body


class _Incoming(io.RawIOBase):
    """What a socket receives until the deadline.

    A timeout of the socket is one of each recv: a server that drips a byte a second would never meet it.
    """

    def __init__(self, sock: socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        """All that HTTPResponse asks of a socket."""
        return io.BufferedReader(self, 65536)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)


def _left(deadline: Deadline) -> float:
    if deadline.passed:
        raise TimeoutError("the deadline passed")
    return max(deadline.remaining_s, 0.001)


def _reason(error: Exception) -> str:
    """In few words: urllib3 wraps the error of the operating system, whose text is the useful one."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return (cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)) or type(cause).__name__
