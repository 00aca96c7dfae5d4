# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A web server on loopback that answers as a test wants, and remembers what it was asked."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[["Handler"], None]
SERVER_TIMEOUT_S = 20.0
END_TIMEOUT_S = 10.0


@dataclass
class WebSite:
    """What its paths answer. `last`: what comes when a path's list is at its end is repeated."""

    address: str
    port: int
    scheme: str
    answers: dict[str, list[Answer]] = field(default_factory=dict[str, list[Answer]])
    asked: list[tuple[str, Message]] = field(default_factory=list[tuple[str, Message]])
    names: list[str | None] = field(default_factory=list[str | None])
    """Names that clients asked for in their TLS hello (SNI)."""
    released: threading.Event = field(default_factory=threading.Event)
    """Set at the end: whoever holds an answer back lets go."""

    def url(self, path: str, host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.address}:{self.port}{path}"

    def serve(self, path: str, *answers: Answer) -> str:
        """The path answers so, one after the other, the last one again and again; its URL."""
        self.answers[path] = list(answers)
        return self.url(path)

    def ranges(self) -> list[str | None]:
        """That were asked for, in order."""
        return [headers["Range"] for _, headers in self.asked]

    def next_answer(self, path: str) -> Answer:
        left = self.answers.get(path.partition("?")[0], [status(404)])
        return left.pop(0) if len(left) > 1 else left[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SERVER_TIMEOUT_S
    site: WebSite

    def do_GET(self) -> None:
        self.site.asked.append((self.path, self.headers))
        self.close_connection = True
        try:
            self.site.next_answer(self.path)(self)
        except OSError:  # the client has gone
            self.close_connection = True

    def begin(self, code: int, *headers: tuple[str, str | int]) -> None:
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """A test's output is its own."""


def body(
    contents: bytes,
    *,
    etag: str | None = '"1"',
    modified: str | None = None,
    breaks_after: int | None = None,
    length: int | None = None,
    ranges: bool = True,
) -> Answer:
    """A file, as a good server has it; the connection may end after some bytes of it."""

    def answer(handler: Handler) -> None:
        headers: list[tuple[str, str | int]] = []
        headers += [("ETag", etag)] if etag else []
        headers += [("Last-Modified", modified)] if modified else []
        begin = _begin(handler.headers) if ranges and handler.headers["If-Range"] in {etag, modified} else 0
        rest = contents[begin:]
        if begin:
            headers.append(("Content-Range", f"bytes {begin}-{len(contents) - 1}/{len(contents)}"))
        headers.append(("Content-Length", len(rest) if length is None else length))
        handler.begin(206 if begin else 200, *headers)
        handler.wfile.write(rest[:breaks_after])

    return answer


def chunked(contents: bytes, *, ends: bool = True) -> Answer:
    def answer(handler: Handler) -> None:
        handler.begin(200, ("Transfer-Encoding", "chunked"), ("ETag", '"1"'))
        for place in range(0, len(contents), 100_000):
            piece = contents[place : place + 100_000]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n" if ends else b"")

    return answer


def status(code: int, *headers: tuple[str, str | int], contents: bytes = b"no") -> Answer:
    return lambda handler: _whole(handler, code, headers, contents)


def redirect(to: str, code: int = 302) -> Answer:
    return status(code, ("Location", to))


def silent_after(contents: bytes, total: int, reached: threading.Event) -> Answer:
    """Some bytes of more, and then nothing."""

    def answer(handler: Handler) -> None:
        handler.begin(200, ("Content-Length", total), ("ETag", '"1"'))
        handler.wfile.write(contents)
        handler.wfile.flush()
        reached.set()
        handler.site.released.wait(SERVER_TIMEOUT_S)

    return answer


def silence(handler: Handler) -> None:
    """Not even a status."""
    handler.site.released.wait(SERVER_TIMEOUT_S)


def _whole(handler: Handler, code: int, headers: Sequence[tuple[str, str | int]], contents: bytes) -> None:
    handler.begin(code, *headers, ("Content-Length", len(contents)))
    handler.wfile.write(contents)


def _begin(headers: Message) -> int:
    wanted = headers["Range"]
    return int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0


class Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, *_: Any) -> None:
        """A client that does not trust the certificate hangs up."""


@contextmanager
def web_site(address: str = "127.0.0.1", certificate: Path | None = None) -> Generator[WebSite]:
    """With TLS, when there is a certificate (and its key beside it)."""

    class OfThisSite(Handler):
        pass

    server = Server((address, 0), OfThisSite)
    site = WebSite(address, server.server_address[1], "https" if certificate else "http")
    OfThisSite.site = site
    if certificate:
        server.socket = _with_tls(server.socket, certificate, site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name=f"web {site.port}")
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        server.server_close()
        thread.join(END_TIMEOUT_S)


def _with_tls(listening: socket.socket, certificate: Path, site: WebSite) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    context.sni_callback = lambda _, name, __: site.names.append(name)
    return context.wrap_socket(listening, server_side=True)


def make_certificate(directory: Path, name: str, alternative_names: str) -> Path:
    """A certificate that has signed itself; its key is beside it."""
    path = directory / f"{name}.pem"
    subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative_names}")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subprocess.run(
        ["openssl", "req", "-x509", "-days", "2", *key, "-keyout", path.with_suffix(".key"), "-out", path, *subject],
        check=True,
        capture_output=True,
        timeout=SERVER_TIMEOUT_S,
    )
    return path
