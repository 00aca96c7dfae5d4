# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A real agent tells systemd that it is alive as long as all of its loops turn, and how it is.

systemd's socket is the test's own.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_process import Stack, running_stack
from notify_socket import NotifySocket, notify_socket
from raw_client import RawClient, raw_client
from standstill import stop
from storpool_commands.control import Drain, GetAgentStatus
from tcp_proxy import TcpProxy

pytestmark = pytest.mark.long

WATCHDOG_S = 6.0
"""A loop is named when a third of it is over. systemd is told four times in it."""
ALIVE = "WATCHDOG=1"
IDLE = "STATUS=serving kvm1: 0 commands running, broker connected"


@dataclass
class Scene:
    stack: Stack
    systemd: NotifySocket
    raw: RawClient
    hang_file: Path
    broker: TcpProxy

    def logged(self, event: str, loop: str) -> bool:
        return any(line["loop"] == loop for line in self.stack.agent.events(event))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("watchdog")
    hang_file = directory / "hang"
    with ExitStack() as stacked:
        broker = stacked.enter_context(TcpProxy(("127.0.0.1", 5672)))
        url = f"amqp://guest:guest@127.0.0.1:{broker.port}"
        stack = stacked.enter_context(running_stack(start=False, amqp={"url": url}))
        systemd = stacked.enter_context(notify_socket(directory, WATCHDOG_S))
        stack.agent.environment = {**systemd.environment, "STORPOOL_AGENT_HANG_FILE": str(hang_file)}
        stack.agent.start()
        systemd.until(lambda line: line == "READY=1")
        with raw_client(stack.amqp_url) as raw:
            yield Scene(stack, systemd, raw, hang_file, broker)
        assert stack.agent.stop() == 0
        systemd.forget()
        assert "STOPPING=1" in systemd.said


@pytest.mark.parametrize("loop", ["bus/in", "bus/out", "libvirt/events", "outbox", "journal"])
def test_a_loop_that_hangs_is_named_and_systemd_is_not_told_any_more_until_it_turns(scene: Scene, loop: str) -> None:
    scene.systemd.forget()
    scene.systemd.until(lambda line: line == ALIVE)
    scene.hang_file.write_text(loop)
    asked = scene.raw.ask({"command": "ping"})
    until(lambda: scene.logged("loop stuck", loop))
    scene.systemd.until(lambda line: f"{loop} is stuck" in line)
    assert ALIVE not in scene.systemd.listen(WATCHDOG_S / 2)
    scene.hang_file.unlink()
    scene.systemd.until(lambda line: line == ALIVE)
    assert scene.logged("loop turns again", loop)
    assert scene.raw.reply(asked)["status"] == "success"
    scene.systemd.until(lambda line: line == IDLE)


def test_a_worker_that_takes_long_and_a_storpool_that_hangs_are_alive(scene: Scene) -> None:
    volume = scene.stack.create()
    scene.stack.storpool.sim.fault({"kind": "delay", "seconds": WATCHDOG_S}, query="VolumeUpdate")
    asked = scene.raw.ask({"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": 32 << 20})
    scene.systemd.until(lambda line: line == "STATUS=serving kvm1: 1 command running, broker connected")
    assert ALIVE in scene.systemd.listen(WATCHDOG_S)
    assert scene.raw.reply(asked)["status"] == "success"


def test_an_agent_that_waits_for_its_broker_is_alive_and_says_so(scene: Scene) -> None:
    scene.broker.cut()
    scene.systemd.until(lambda line: line.startswith("STATUS=serving kvm1: 0 commands running, waiting for the broker"))
    assert ALIVE in scene.systemd.listen(WATCHDOG_S)
    scene.broker.heal()
    scene.systemd.until(lambda line: line == IDLE)


def test_an_api_that_is_none_is_told_until_it_answers_again(scene: Scene) -> None:
    scene.stack.storpool.sim.fault({"kind": "raw", "status": 502, "body": "a page"}, times=None, query="ServicesList")
    assert not scene.stack.call(GetAgentStatus()).storpool.reachable
    scene.systemd.until(lambda line: line.startswith("STATUS=serving kvm1: what answers is not StorPool's API, "))
    scene.stack.storpool.sim.clear_faults()
    assert scene.stack.call(GetAgentStatus()).storpool.reachable
    scene.systemd.until(lambda line: line == IDLE)


def test_a_drained_host_says_so(scene: Scene) -> None:
    scene.stack.call(Drain(on=True))
    scene.systemd.until(lambda line: line.startswith("STATUS=kvm1 is drained and takes no commands: "))
    scene.stack.call(Drain(on=False))
    scene.systemd.until(lambda line: line == IDLE)


def test_a_process_that_stands_still_says_nothing(scene: Scene) -> None:
    stack = scene.stack
    scene.systemd.forget()
    scene.systemd.until(lambda line: line == ALIVE)
    stop(stack.agent.pid)
    try:
        scene.systemd.listen(0.5)
        assert scene.systemd.listen(WATCHDOG_S / 2) == []
    finally:
        os.kill(stack.agent.pid, signal.SIGCONT)
    scene.systemd.until(lambda line: line == ALIVE)


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
