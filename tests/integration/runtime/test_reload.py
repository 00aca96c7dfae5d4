# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""SIGHUP to a real agent: what changes at once, what does not, and a file that is broken."""

import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from agent_process import Stack, running_stack
from notify_socket import NotifySocket, notify_socket
from raw_client import raw_client
from storpool_commands.control import Ping
from storpool_commands.topology import ANY_HOST
from storpool_commands.volumes import CreateVolume

MIB = 1 << 20
SLOW_S = 4.0
"""The status line is looked at once a second."""


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotifySocket]:
    with notify_socket(tmp_path_factory.mktemp("reload"), 60) as opened:
        yield opened


@pytest.fixture(scope="module")
def stack(systemd: NotifySocket) -> Iterator[Stack]:
    with running_stack(start=False, log={"level": "info"}, lanes={"fast": 1}) as running:
        running.agent.environment = systemd.environment
        running.agent.start()
        yield running


@pytest.fixture(autouse=True)
def _as_before(stack: Stack, systemd: NotifySocket) -> Iterator[None]:
    yield
    reload(stack, systemd)


def reload(stack: Stack, systemd: NotifySocket, **changes: Mapping[str, Any]) -> None:
    """With these sections over the settings that the agent was started with; back when systemd has been told."""
    values = {name: {**stack.settings[name], **changes.get(name, {})} for name in stack.settings if name in changes}
    stack.agent.configure({**stack.settings, **values})
    again(stack, systemd)


def again(stack: Stack, systemd: NotifySocket) -> None:
    systemd.forget()
    os.kill(stack.agent.pid, signal.SIGHUP)
    systemd.until(lambda line: line == "READY=1")


def test_level_widths_and_publishers_change_at_once(stack: Stack, systemd: NotifySocket) -> None:
    reload(stack, systemd, log={"level": "debug"}, lanes={"fast": 3, "any": 2}, amqp={"allowed_publishers": ["nobody"]})
    assert stack.agent.events("reloaded")[-1]["changed"] == [
        "amqp.allowed_publishers",
        "lanes.fast",
        "lanes.any",
        "log.level",
    ]
    with raw_client(stack.amqp_url) as raw:
        raw.ask({"command": "ping"})
        raw.wait_for(1)
        assert raw.received[0].json["code"] == "not-authorized"
        reload(stack, systemd, log={"level": "debug"}, lanes={"fast": 3, "any": 2})
        volumes = [stack.create() for _ in range(3)]
        stack.storpool.sim.fault({"kind": "delay", "seconds": SLOW_S}, times=3, query="VolumeUpdate")
        for volume in volumes:
            raw.ask({"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": 32 * MIB})
        systemd.until(lambda line: "3 commands running" in line)
        systemd.until(lambda line: "0 commands running" in line)
    assert stack.agent.events("started")
    made = stack.management.call(CreateVolume(size_bytes=MIB, template="dev"), host=ANY_HOST, timeout_s=30)
    assert made.size_bytes == MIB


def test_what_takes_a_restart_is_named(stack: Stack, systemd: NotifySocket) -> None:
    reload(stack, systemd, storpool={"our_id": 2})
    assert stack.agent.events("restart needed")[-1]["settings"] == ["storpool.our_id"]


def test_a_broken_file_changes_nothing_and_is_told(stack: Stack, systemd: NotifySocket) -> None:
    stack.agent.config.write_text("[lanes]\nfsat = 3\n")
    again(stack, systemd)
    assert stack.agent.events("not reloaded")[-1]["reason"] == f"{stack.agent.config}: lanes.fsat: no such setting"
    systemd.until(lambda line: "the settings could not be reloaded" in line)
    assert stack.call(Ping()).host == "kvm1"
    reload(stack, systemd)
    systemd.until(lambda line: line == "STATUS=serving kvm1: 0 commands running, broker connected")
