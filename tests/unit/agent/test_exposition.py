# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What monitoring fetches, over a real socket: its answers, and that nobody can keep others from theirs."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import Any

import pytest
from structlog.testing import capture_logs

from storpool_agent import exposition
from storpool_agent.exposition import MAX_CONNECTIONS, Exposition
from storpool_agent.health import Health

WAIT_S = 5.0


class Site:
    """An exposition at a port that was free."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.health = Health()
        self.exposition = Exposition((host, port), self.health)
        self.host = host
        self.port = port

    def start(self) -> None:
        with capture_logs() as logs:
            self.exposition.start()
            until(lambda: any(line["event"] == "metrics served" for line in logs))
        self.port = int(next(line["address"] for line in logs if "address" in line).rpartition(":")[2])

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        with closing(HTTPConnection(self.host, self.port, timeout=WAIT_S)) as connection:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type") or "", response.read().decode()

    def probe(self, path: str) -> tuple[int, dict[str, Any]]:
        status, kind, body = self.get(path)
        assert kind == "application/json"
        return status, json.loads(body)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), WAIT_S)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.start()
    yield site
    site.exposition.stop()


def test_metrics_are_served_as_prometheus_reads_them(site: Site) -> None:
    status, kind, body = site.get("/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "# TYPE storpool_agent_commands_total counter" in body
    status, kind, body = site.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_probes_say_what_is_missing_in_words(site: Site) -> None:
    assert site.probe("/healthz") == (200, {"live": True, "dead": {}})
    assert site.probe("/readyz") == (200, {"ready": True, "missing": {}})
    site.health.needed("journal", lambda: "the disk is full")
    assert site.probe("/readyz") == (503, {"ready": False, "missing": {"journal": "the disk is full"}})
    assert site.probe("/healthz") == (200, {"live": True, "dead": {}})
    site.health.vital("loops", lambda: "ended before its time: outbox")
    assert site.probe("/healthz") == (503, {"live": False, "dead": {"loops": "ended before its time: outbox"}})


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/readyz/x"])
def test_nothing_else_is_there(site: Site, path: str) -> None:
    assert site.probe(path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_nothing_can_be_done(site: Site, method: str) -> None:
    assert site.get("/metrics", method)[0] == 405


def test_what_is_no_http_is_refused_and_harms_nobody(site: Site) -> None:
    with site.connect() as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert b"400" in client.recv(1000)
    assert site.get("/metrics")[0] == 200


def test_more_clients_than_threads_are_sent_away(site: Site) -> None:
    with ExitStack() as silent:
        for _ in range(MAX_CONNECTIONS):
            silent.enter_context(site.connect())
        with site.connect() as one_too_many:
            assert is_cut_off(one_too_many)
        assert len(answering()) == MAX_CONNECTIONS
    until(lambda: not answering())
    assert site.get("/metrics")[0] == 200


def test_a_client_that_drips_does_not_keep_its_thread(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "LONGEST_S", 0.2)
    with site.connect() as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert is_cut_off(slow)


def test_a_stop_does_not_wait_for_a_client() -> None:
    site = Site()
    site.start()
    with site.connect() as silent:
        silent.sendall(b"GET ")
        site.exposition.stop()
        assert is_cut_off(silent)
    assert answering() == []
    with pytest.raises(ConnectionRefusedError):
        site.connect()


def test_a_port_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "BIND_AGAIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        site = Site(port=port)
        with capture_logs() as logs:
            site.exposition.start()
            until(lambda: bool(logs))
        assert logs[0]["event"] == "metrics not served"
        assert (logs[0]["log_level"], logs[0]["address"]) == ("warning", f"127.0.0.1:{port}")
    with capture_logs() as logs:
        until(lambda: any(line["event"] == "metrics served" for line in logs))
    assert site.get("/healthz")[0] == 200
    site.exposition.stop()


def test_a_port_that_stays_taken_does_not_delay_the_stop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        exposed = Exposition(("127.0.0.1", other.getsockname()[1]), Health())
        exposed.start()
        exposed.stop()
    assert not exposed._thread.is_alive()


def test_it_can_be_off() -> None:
    off = Exposition(None, Health())
    off.start()
    assert off._thread.ident is None
    off.stop()


def test_it_serves_ipv6_too() -> None:
    site = Site("::1")
    site.start()
    assert site.get("/healthz")[0] == 200
    site.exposition.stop()


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def is_cut_off(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:  # something that was sent was not read
        return True


def answering() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "process_request_thread" in thread.name]
