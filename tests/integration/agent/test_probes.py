# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""/readyz and /healthz of a real agent: 503 with the reason for as long as it holds, and 200 again by themselves."""

import json
import socket
import time
from collections.abc import Callable
from uuid import uuid4

import pytest

from agent_process import AgentProcess, running_stack
from raw_client import RawClient, raw_client
from small_disk import SmallDisk, small_disk
from storpool_commands.control import Drain
from tcp_proxy import TcpProxy

pytestmark = pytest.mark.long

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
            asked = crowd_out(raw, disk, stack.agent)
            assert "journal full" in missing(stack.agent)["held"]
            assert stack.agent.probe("/healthz") == LIVE
            disk.free()
            until(lambda: stack.agent.probe("/readyz") == READY)
            assert all(raw.reply(one)["status"] in {"success", "failure"} for one in asked)
        stack.agent.stop()


def missing(agent: AgentProcess) -> dict[str, str]:
    status, body = agent.probe("/readyz")
    told: dict[str, str] = body["missing"]
    assert (status, body["ready"]) == ((503, False) if told else (200, True))
    return told


def crowd_out(raw: RawClient, disk: SmallDisk, agent: AgentProcess) -> list[str]:
    """Ask until nothing can be stored any more: the journal's ballast, and the room in its log, take some first.

    Also what is accepted then may have no reply before there is room.
    """
    asked: list[str] = []

    def look() -> bool:
        disk.fill()
        asked.append(str(uuid4()))
        ping = json.dumps({"id": asked[-1], "protocol": 1, "body": {"command": "ping"}})
        raw.publish(ping.ljust(100_000 if len(asked) < 100 else 1_000).encode())
        return "held" in missing(agent)

    until(look)
    return asked


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
