# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A StorPool that is down, hangs, or answers what no StorPool would."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_process import AgentProcess, Stack
from integration.agent.refusals import Scene, assert_kept_secret, nothing_changes, refused
from raw_client import raw_client
from storpool_commands.errors import ErrorCode

MIB = 1 << 20
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
SOON_S = 1.5
"""The time that the commands here are given."""


def connect(volume: str, timeout_s: float = SOON_S) -> dict[str, Any]:
    return {"command": "connectPhysicalDisk", "volume": volume, "timeoutS": timeout_s}


def resize(volume: str) -> dict[str, Any]:
    return {"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": 32 * MIB, "timeoutS": SOON_S}


COMMANDS = pytest.mark.parametrize("command", [connect, resize])


def test_an_api_that_is_down_is_named(stack: Stack) -> None:
    volume = stack.create()
    before = stack.storpool.sim.state()["volumes"]
    with raw_client(stack.amqp_url) as raw:
        stack.storpool.kill()
        replies = [raw.reply(raw.ask(command(volume))) for command in (connect, resize)]
        stack.storpool.start()
    for reply in replies:
        says = (stack.storpool.api, "check that storpool_mgmt")
        refused(reply, ErrorCode.STORPOOL_UNAVAILABLE, says=says, facts={"api": stack.storpool.api})
    assert (stack.storpool.sim.state()["volumes"], stack.attachments(volume)) == (before, [])


@COMMANDS
def test_an_api_that_hangs_is_not_waited_for_for_ever(scene: Scene, volume: str, command: Any) -> None:
    scene.stack.storpool.sim.fault({"kind": "hang"}, times=None)
    with nothing_changes(scene.stack):
        reply = scene.send(command(volume))
    refused(
        reply, ErrorCode.STORPOOL_TIMEOUT, says=(scene.stack.storpool.api,), facts={"api": scene.stack.storpool.api}
    )
    assert reply["tookMs"] < 2 * SOON_S * 1000


@COMMANDS
@pytest.mark.parametrize(("status", "body"), [(200, HTML), (502, HTML), (500, "Internal Server Error"), (500, "{}")])
def test_an_answer_that_is_no_storpools_is_told_as_such(
    scene: Scene, volume: str, command: Any, status: int, body: str
) -> None:
    page = {"kind": "raw", "status": status, "body": body, "content_type": "text/html"}
    scene.stack.storpool.sim.fault(page, times=None, method="GET")
    with nothing_changes(scene.stack):
        reply = scene.send(command(volume))
    facts = {"api": scene.stack.storpool.api, "status": status, "body": body}
    refused(reply, ErrorCode.STORPOOL_BAD_ANSWER, says=(str(status), "check the address"), facts=facts)


def test_an_internal_error_of_storpool_is_passed_on_with_its_name(scene: Scene, volume: str) -> None:
    scene.stack.storpool.sim.fault({"kind": "error", "name": "internalError", "descr": "out of luck"}, times=None)
    with nothing_changes(scene.stack):
        reply = scene.send(connect(volume))
    refused(reply, ErrorCode.STORPOOL_REFUSED, says=("out of luck",), facts={"error": "internalError"})


def test_an_attach_that_hangs_unsent_leaves_nothing(scene: Scene, volume: str) -> None:
    scene.stack.storpool.sim.fault({"kind": "hang"}, query="VolumesReassignWait")
    with nothing_changes(scene.stack, undone=True):
        reply = scene.send(connect(volume))
    refused(reply, ErrorCode.STORPOOL_TIMEOUT, says=("VolumesReassignWait",), facts={"volume": volume})


def test_an_attach_whose_answer_is_lost_is_found(scene: Scene, volume: str) -> None:
    scene.stack.storpool.sim.fault({"kind": "close_after"}, query="VolumesReassignWait")
    reply = scene.send(connect(volume, 10))
    assert (reply["status"], scene.stack.attachments(volume)) == ("success", [(1, "rw")])


def test_a_create_whose_answer_is_html_makes_one_volume(scene: Scene) -> None:
    page = {"kind": "raw", "status": 502, "body": HTML, "content_type": "text/html", "processed": True}
    before = len(scene.stack.storpool.sim.state()["volumes"])
    scene.stack.storpool.sim.fault(page, query="VolumeCreate")
    reply = scene.send({"command": "createVolume", "sizeBytes": MIB, "template": "dev"})
    assert reply["status"] == "success"
    assert len(scene.stack.storpool.sim.state()["volumes"]) == before + 1


def test_a_resize_that_storpool_refuses_changes_nothing(scene: Scene, volume: str) -> None:
    scene.stack.storpool.sim.fault(
        {"kind": "error", "name": "insufficientResources", "descr": "no space"}, query="VolumeUpdate", times=None
    )
    with nothing_changes(scene.stack, undone=True):
        reply = scene.send(resize(volume))
    refused(reply, ErrorCode.INSUFFICIENT_RESOURCES, facts={"volume": volume[1:]})


def test_a_device_that_never_comes_undoes_the_attach(scene: Scene, volume: str) -> None:
    scene.stack.storpool.sim.fault({"kind": "late_link", "seconds": None}, query="VolumesReassignWait")
    with nothing_changes(scene.stack, undone=True):
        reply = scene.send(connect(volume))
    refused(reply, ErrorCode.DEVICE_TIMEOUT, says=(volume[1:],))
    assert {step["step"]: step["status"] for step in reply["steps"]}["attach"] == "undone"


def test_a_token_that_storpool_does_not_know_is_told_and_not_shown(scene: Scene, volume: str) -> None:
    with _agent_with_token(scene.stack, "canary-wrong-token") as agent, raw_client(scene.stack.amqp_url, "kvm2") as raw:
        with nothing_changes(scene.stack):
            reply = raw.reply(raw.ask(connect(volume)))
        assert_kept_secret(("canary-wrong-token",), raw, agent)
    facts = {"api": scene.stack.storpool.api}
    refused({**reply, "host": "kvm1"}, ErrorCode.STORPOOL_UNAUTHORIZED, says=("SP_AUTH_TOKEN",), facts=facts)


@contextmanager
def _agent_with_token(stack: Stack, token: str) -> Iterator[AgentProcess]:
    """Another host's agent on the same broker and StorPool."""
    with tempfile.TemporaryDirectory() as directory:
        agent = AgentProcess(
            Path(directory),
            {
                **stack.settings,
                "host": "kvm2",
                "state_dir": str(Path(directory) / "state"),
                "storpool": {"api": stack.storpool.api, "token": token, "our_id": 2},
            },
        )
        try:
            agent.start()
            yield agent
        finally:
            agent.kill()
