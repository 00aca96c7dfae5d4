# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The control socket: who may ask, what is answered, and what becomes of a socket that was left behind."""

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from storpool_agent import local
from storpool_agent.cli import agent
from storpool_agent.dispatch import pong
from storpool_agent.local import LocalSocket
from storpool_commands.control import Ping, Pong
from storpool_commands.envelope import ControlRequest, Failure, Success

WAIT_S = 30.0


class Answers:
    """In the place of Control: answers in another thread, or not at all."""

    def __init__(self) -> None:
        self.silent = False
        self.asked = threading.Event()

    def answer(
        self, request: ControlRequest, say: Callable[[Success | Failure], None], publisher: str | None = None
    ) -> None:
        self.asked.set()
        if self.silent:
            return
        reply = Success(id=request.id, host="kvm1", result=pong("kvm1"), took_ms=0)
        thread = threading.Thread(target=say, args=(reply,))
        thread.start()
        thread.join()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is that tests."""
    monkeypatch.setattr(agent, "ALIVE_S", WAIT_S)
    monkeypatch.setattr(local, "ASK_S", WAIT_S)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


@pytest.fixture
def serving(answers: Answers, path: Path) -> Iterator[LocalSocket]:
    control: Any = answers
    serving = LocalSocket(path, "kvm1", control)
    serving.open()
    serving.start()
    yield serving
    serving.stop()


def tell(path: Path, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(str(path))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        reply: dict[str, Any] = json.loads(connection.makefile().read())
        return reply


@pytest.mark.usefixtures("serving")
def test_who_asks_is_answered(path: Path) -> None:
    assert agent.ask(path, Ping(), Pong).host == "kvm1"


@pytest.mark.usefixtures("serving")
def test_the_socket_is_for_its_owner_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param(b"\n", "not-json", id="an empty line"),
        pytest.param(b"", "not-json", id="nothing"),
        pytest.param(b"{}\n", "invalid-request", id="half a request"),
        pytest.param(b"x" * ((1 << 20) + 1) + b"\n", "message-too-large", id="too much"),
        pytest.param(
            json.dumps({"id": str(uuid4()), "protocol": 1, "body": {"command": "attachDisk"}}).encode() + b"\n",
            "unknown-command",
            id="a command for the host's queue",
        ),
    ],
)
def test_what_is_no_control_request_is_refused(path: Path, line: bytes, code: str) -> None:
    reply = tell(path, line)
    assert (reply["status"], reply["code"]) == ("failure", code)


@pytest.mark.usefixtures("serving")
def test_another_user_is_refused(path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_peer", lambda _connection: (1, os.geteuid() + 1 or 7))
    reply = tell(path, b"{}\n")
    assert (reply["code"], answers.asked.is_set()) == ("not-authorized", False)


def test_a_stop_ends_the_wait_of_who_has_asked(path: Path, answers: Answers, serving: LocalSocket) -> None:
    answers.silent = True
    failed: list[Exception] = []

    def ask() -> None:
        try:
            agent.ask(path, Ping(), Pong)
        except agent.AgentSilent as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert answers.asked.wait(WAIT_S)
    serving.stop()
    thread.join(WAIT_S)
    assert [str(error) for error in failed] == ["it has closed the connection without an answer"]
    assert not path.exists()


def test_who_does_not_answer_is_silent_and_is_named(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(agent.AgentSilent, match="no answer within") as silent:
            agent._exchange(path, {"command": "ping"}, 0.05)
    assert silent.value.pid == os.getpid()


def test_nobody_is_down_not_silent(path: Path) -> None:
    with pytest.raises(agent.AgentDown):
        agent.ask(path, Ping(), Pong)
    leave_behind(path)
    with pytest.raises(agent.AgentDown):
        agent.ask(path, Ping(), Pong)


def test_a_socket_that_was_left_behind_is_replaced(path: Path, answers: Answers) -> None:
    leave_behind(path)
    control: Any = answers
    serving = LocalSocket(path, "kvm1", control)
    serving.open()
    serving.start()
    assert agent.ask(path, Ping(), Pong).host == "kvm1"
    serving.stop()
    assert list(path.parent.iterdir()) == []


def test_a_socket_of_another_agent_is_not(path: Path, answers: Answers, serving: LocalSocket) -> None:
    assert "another agent listens there" in not_made(path)
    assert agent.ask(path, Ping(), Pong).host == "kvm1"


def test_a_file_that_is_no_socket_stays(path: Path, answers: Answers) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_text("mine")
    assert "something that is no socket is there" in not_made(path)
    assert path.read_text() == "mine"


def test_a_directory_that_others_may_write_to_is_refused(path: Path, answers: Answers) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    assert "others may write to" in not_made(path)


def test_a_name_that_is_too_long_is_told(tmp_path: Path, answers: Answers) -> None:
    assert "longer than 103 bytes" in not_made(tmp_path / ("x" * 120))


def not_made(path: Path) -> str:
    """Why; the agent goes on without."""
    control: Any = Answers()
    serving = LocalSocket(path, "kvm1", control)
    with capture_logs() as said:
        serving.open()
        serving.start()
        serving.stop()
    (reason,) = [line["reason"] for line in said if line["event"] == "local socket not made"]
    return str(reason)


def leave_behind(path: Path) -> None:
    """As an agent does that is killed."""
    path.parent.mkdir(exist_ok=True, mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
