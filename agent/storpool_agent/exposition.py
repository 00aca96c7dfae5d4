# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What monitoring fetches over HTTP: /metrics, /healthz, /readyz. Nothing can be changed this way."""

import json
import socket
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from time import monotonic
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog

from storpool_agent import metrics
from storpool_agent.health import Health

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = structlog.get_logger()

MAX_CONNECTIONS = 8
"""Each has a thread. Prometheus makes one, a prober another; who comes when all are taken is sent away."""
SILENCE_S = 5.0
LONGEST_S = 10.0
"""For a whole request and its answer: nobody keeps a thread by sending a byte now and then."""
LOOK_S = 1.0
"""How often it is looked who is there for too long."""
BIND_AGAIN_S = 10.0
"""An address that is taken, by the agent that ends as this one begins, or not there yet."""


class Exposition:
    """One thread that listens, and one for each request. A port that is taken is no reason not to serve commands."""

    def __init__(self, address: tuple[str, int] | None, health: Health) -> None:
        """None: nothing is served."""
        self._address = address
        self._app = _App(health)
        self._stopping = threading.Event()
        self._mutex = threading.Lock()
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name="exposition")

    def start(self) -> None:
        if self._address is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ends what is being answered, too."""
        with self._mutex:
            self._stopping.set()
            server = self._server
        if server is not None:
            server.end()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            server = self._listen()
            if server is None:
                self._stopping.wait(BIND_AGAIN_S)
                continue
            with self._mutex:
                if self._stopping.is_set():
                    server.server_close()
                    return
                self._server = server
            server.serve()

    def _listen(self) -> "_Server | None":
        host, port = self._address or ("", 0)
        try:
            server = _Server(host, port)
        except OSError as error:
            log.warning("metrics not served", address=f"{host}:{port}", reason=error.strerror)
            return None
        server.set_app(self._app)
        log.info("metrics served", address=f"{host}:{server.server_port}")
        return server


class _App:
    def __init__(self, health: Health) -> None:
        self._health = health
        self._metrics = metrics.wsgi_app()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return _answer(start_response, "405 Method Not Allowed", {"error": "only GET is answered"})
        match environ["PATH_INFO"]:
            case "/metrics":
                return self._metrics(environ, start_response)
            case "/healthz":
                dead = self._health.dead()
                return _answer(start_response, _status(dead), {"live": not dead, "dead": dead})
            case "/readyz":
                missing = self._health.missing()
                return _answer(start_response, _status(missing), {"ready": not missing, "missing": missing})
            case _:
                return _answer(start_response, "404 Not Found", {"error": "there are /metrics, /healthz and /readyz"})


def _status(wrong: Mapping[str, str]) -> str:
    return "503 Service Unavailable" if wrong else "200 OK"


def _answer(start_response: "StartResponse", status: str, body: Mapping[str, object]) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    return [json.dumps(body).encode() + b"\n"]


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
        """A scrape is no event."""


class _Server(ThreadingMixIn, WSGIServer):
    """Few connections at a time, each for a while."""

    daemon_threads = False

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open: dict[socket.socket, float] = {}
        self._mutex = threading.Lock()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without a look-up of this host's name, which can take as long as a name server is away."""
        TCPServer.server_bind(self)
        host, self.server_port = self.socket.getsockname()[:2]
        self.server_name = str(host)
        self.setup_environ()

    def serve(self) -> None:
        """Until `end`."""
        with self:
            self.serve_forever(LOOK_S)

    def end(self) -> None:
        """Any other thread may call this, once."""
        self.socket.shutdown(socket.SHUT_RDWR)  # the loop looks up at once
        self.shutdown()
        self._cut(monotonic())

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        with self._mutex:
            return len(self._open) < MAX_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._mutex:
            self._open[request] = monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._mutex:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        super().service_actions()
        self._cut(monotonic() - LONGEST_S)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        error = sys.exception()
        if isinstance(error, OSError):
            log.debug("scraper gone", reason=str(error))
        else:
            log.error("crashed", exc_info=error)

    def _cut(self, before: float) -> None:
        """The thread that reads or writes there gets an error, and ends."""
        with self._mutex:
            for connection, since in self._open.items():
                if since <= before:
                    with suppress(OSError):  # whoever it was has just gone
                        connection.shutdown(socket.SHUT_RDWR)
