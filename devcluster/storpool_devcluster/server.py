# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP alone: one thread a connection, HTTP/1.0 with `Connection: close` as StorPool answers.

Header and body leave in one send: in two, clients that keep the connection wait 40 ms for a delayed acknowledgement.
Threads take turns in accept(2) themselves, so that a request is never handed from one thread to another.
"""

import errno
import logging
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Condition, Event, Thread, current_thread

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 30.0
MAX_HEADER_BYTES = 64 << 10
MAX_BODY_BYTES = 64 << 20
IDLE_THREADS = 8  # more are ended once they have nothing to do
STOP_TIMEOUT_S = 10.0
BACKLOG = 512
ACCEPT_RETRY_S = 0.1  # no descriptors left


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Whole:
    """The answer as it should be."""


@dataclass(frozen=True, slots=True)
class Truncated:
    """The first bytes of the body, then the end."""

    body_bytes: int


@dataclass(frozen=True, slots=True)
class Dripped:
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer: the connection is closed, or reset."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class Withheld:
    """No answer, and the connection stays open until the client or the server ends."""


Delivery = Whole | Truncated | Dripped | Lost | Withheld


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    delivery: Delivery = field(default_factory=Whole)
    content_type: str = "application/json"


class BadRequest(Exception):
    """What came is not HTTP, or too much of it."""


Handler = Callable[[Request], Reply]


class Server:
    """Listens from the moment it is made; answers from `start` on."""

    def __init__(self, address: tuple[str, int], handler: Handler, *, keep_alive: bool = False) -> None:
        self._handler = handler
        self._keep_alive = keep_alive
        self._stopping = Event()
        self._changed = Condition()
        self._threads: set[Thread] = set()
        self._idle = 0
        self._refusing_until = 0.0
        self._socket = _listening_socket(address)

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"{host}:{port}"

    def start(self) -> None:
        with self._changed:
            self._spawn()

    def refuse(self, seconds: float) -> None:
        """Refuse connections for a while: the port stays ours, but nobody listens on it."""
        with self._changed:
            self._refusing_until = time.monotonic() + seconds
            self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Take no more requests, and wait for the answers under way."""
        self._stopping.set()
        with self._changed:
            self._refusing_until = 0.0
            self._shut_down_listening()
            self._changed.notify_all()
            threads = list(self._threads)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._socket.close()

    def _shut_down_listening(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("the listening socket was shut down already")

    def _spawn(self) -> None:
        thread = Thread(target=self._take_turns, name="http")
        self._threads.add(thread)
        self._idle += 1
        thread.start()

    def _take_turns(self) -> None:
        try:
            while self._accept_one():
                pass
        finally:
            with self._changed:
                self._threads.discard(current_thread())

    def _accept_one(self) -> bool:
        """Serve one connection. False: this thread is not needed any more."""
        connection = self._accept()
        with self._changed:
            self._idle -= 1
            if connection is None:
                return False
            if self._idle == 0:
                self._spawn()
        try:
            self._serve(connection)
        finally:
            connection.close()
        with self._changed:
            if self._idle >= IDLE_THREADS:
                return False
            self._idle += 1
        return True

    def _accept(self) -> socket.socket | None:
        while not self._stopping.is_set():
            try:
                return self._socket.accept()[0]
            except OSError as error:
                if error.errno == errno.EINVAL:  # not listening: refusing, or stopping
                    self._wait_while_refusing()
                else:
                    log.warning("cannot accept: %s", error)
                    self._stopping.wait(ACCEPT_RETRY_S)
        return None

    def _wait_while_refusing(self) -> None:
        with self._changed:
            while (left := self._refusing_until - time.monotonic()) > 0 and not self._stopping.is_set():
                self._changed.wait(left)
            if not self._stopping.is_set():
                self._socket.listen(BACKLOG)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(READ_TIMEOUT_S)
        received = b""
        try:
            while True:
                request, received = _read_request(connection, received)
                if request is None:
                    return
                reply = self._handler(request)
                self._deliver(connection, reply)
                if not self._keep_alive or request.headers.get("connection", "").lower() == "close":
                    return
        except BadRequest as error:
            connection.sendall(_head(400, 0, "text/plain", keep_alive=False))
            log.info("bad request: %s", error)
        except OSError as error:
            log.debug("connection lost: %s", error)

    def _deliver(self, connection: socket.socket, reply: Reply) -> None:
        keep_alive = self._keep_alive and isinstance(reply.delivery, Whole)
        head = _head(reply.status, len(reply.body), reply.content_type, keep_alive=keep_alive)
        match reply.delivery:
            case Whole():
                connection.sendall(head + reply.body)
            case Truncated(body_bytes):
                connection.sendall(head + reply.body[:body_bytes])
                raise ConnectionError("truncated")
            case Dripped(bytes_per_s):
                self._drip(connection, head + reply.body, bytes_per_s)
            case Lost(reset):
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise ConnectionError("the answer was to be lost")
            case Withheld():
                self._withhold(connection)
                raise ConnectionError("the answer was withheld")

    def _drip(self, connection: socket.socket, content: bytes, bytes_per_s: float) -> None:
        for offset in range(len(content)):
            connection.sendall(content[offset : offset + 1])
            if self._stopping.wait(1 / bytes_per_s):
                raise ConnectionError("stopped")

    def _withhold(self, connection: socket.socket) -> None:
        """Until the client gives up or the server stops."""
        connection.settimeout(0.2)
        while not self._stopping.is_set():
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue


def _listening_socket(address: tuple[str, int]) -> socket.socket:
    """Bound to an explicit port even when any will do: only such a socket keeps its port while it refuses."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port:
            listening.bind(address)
        else:
            _bind_to_any(listening, host)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _bind_to_any(listening: socket.socket, host: str) -> None:
    """Let another socket find a free port and take it over."""
    with socket.socket(listening.family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind((host, 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, probe.getsockname()[1]))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _read_request(connection: socket.socket, received: bytes) -> tuple[Request | None, bytes]:
    """The next request, and what came after it. None at the end of the connection."""
    while (end := received.find(b"\r\n\r\n")) < 0:
        if len(received) > MAX_HEADER_BYTES:
            raise BadRequest("header too long")
        chunk = connection.recv(65536)
        if not chunk:
            return None, b""
        received += chunk
    lines = received[:end].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(f"not a request line: {lines[0][:80]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = _body_length(headers)
    parts, have = [received[end + 4 :]], len(received) - end - 4
    while have < length:
        chunk = connection.recv(min(length - have, 1 << 20))
        if not chunk:
            return None, b""
        parts.append(chunk)
        have += len(chunk)
    rest = b"".join(parts)
    return Request(words[0], words[1], headers, rest[:length]), rest[length:]


def _body_length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest("transfer encodings are not supported")
    text = headers.get("content-length", "0")
    if not text.isdigit() or int(text) > MAX_BODY_BYTES:
        raise BadRequest(f"content length {text[:20]!r}")
    return int(text)


def _head(status: int, length: int, content_type: str, *, keep_alive: bool) -> bytes:
    version, connection = ("1.1", "keep-alive") if keep_alive else ("1.0", "close")
    phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else "Unknown"
    return (
        f"HTTP/{version} {status} {phrase}\r\nConnection: {connection}\r\nContent-Type: {content_type}\r\n"
        f"Cache-control: private\r\nContent-Length: {length}\r\n\r\n"
    ).encode("latin-1")
