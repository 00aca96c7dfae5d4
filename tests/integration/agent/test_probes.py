# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""/readyz and /healthz of a real agent: 503 with the reason for as long as it holds, and 200 again by themselves."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from agent_process import AgentProcess, running_stack
from raw_client import RawClient, raw_client
from small_disk import small_disk
from storpool_commands.control import Drain
from tcp_proxy import TcpProxy

SERVED = {"listen": "127.0.0.1:0"}
READY = (200, {"ready": True, "missing": {}})
LIVE = (200, {"live": True, "dead": {}})
WAIT_S = 30.0


def test_a_drained_host_is_not_ready_and_one_that_is_stopped_answers_nothing() -> None:
    with running_stack(metrics=SERVED) as stack:
        assert (stack.agent.probe("/readyz"), stack.agent.probe("/healthz")) == (READY, LIVE)
        stack.call(Drain(on=True))
        assert missing(stack.agent) == {"drain": "drained: commands are left in their queues until `drain` is off"}
        assert stack.agent.probe("/healthz") == LIVE
        stack.call(Drain(on=False))
        assert stack.agent.probe("/readyz") == READY
        host, _, port = stack.agent.metrics_address.rpartition(":")
        assert stack.agent.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), WAIT_S)


def test_a_host_without_its_broker_lives_and_is_not_ready_until_it_is_back() -> None:
    with TcpProxy(("127.0.0.1", 5672)) as proxy:
        away = {"url": f"amqp://guest:guest@127.0.0.1:{proxy.port}"}
        with running_stack(amqp=away, metrics=SERVED) as stack:
            proxy.cut()
            until(lambda: set(missing(stack.agent)) == {"broker-in", "broker-out"})
            assert "broker unreachable" in missing(stack.agent)["broker-in"]
            assert stack.agent.probe("/healthz") == LIVE
            proxy.heal()
            until(lambda: stack.agent.probe("/readyz") == READY)


def test_a_host_is_not_ready_while_its_journal_has_no_room() -> None:
    with small_disk(size_mib=16) as disk, running_stack(start=False, metrics=SERVED) as stack:
        stack.agent.configure({**stack.settings, "state_dir": str(disk.path / "state")})
        stack.agent.start()
        assert stack.agent.probe("/readyz") == READY
        with raw_client(stack.amqp_url) as raw:
            for size in (500_000, 1_000):
                refuse_one(raw, size, disk.fill)
        assert "free some space" in missing(stack.agent)["journal"]
        assert stack.agent.probe("/healthz") == LIVE
        disk.free()
        assert stack.agent.probe("/readyz") == READY
        stack.agent.stop()


def missing(agent: AgentProcess) -> dict[str, str]:
    status, body = agent.probe("/readyz")
    told: dict[str, str] = body["missing"]
    assert (status, body["ready"]) == ((503, False) if told else (200, True))
    return told


def refuse_one(raw: RawClient, size: int, fill: Callable[[], Any]) -> None:
    """The journal's ballast, and the room in its log, take some more commands first."""
    for _ in range(200):
        fill()
        request_id = str(uuid4())
        ping = json.dumps({"id": request_id, "protocol": 1, "body": {"command": "ping"}})
        raw.publish(ping.ljust(size).encode())
        if raw.reply(request_id)["status"] == "failure":
            return
    raise AssertionError("a full disk refused nothing")


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
