# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs from the side of who waits for them: as long as there are signs of life; and how to have one stopped."""

import signal
import subprocess
from collections.abc import Callable, Iterable
from subprocess import PIPE, Popen
from time import sleep
from typing import Any
from uuid import UUID, uuid4

import pytest

from integration.client.answers import encoded, failure, silent, success
from integration.client.stand_in import Request, StandInAgent
from integration.client.terminal import CTRL_C, PROGRAM, TIMEOUT_S, Terminal
from storpool_commands.client import CommandFailed, ManagementClient, NoReply, request
from storpool_commands.control import CancelledCommand
from storpool_commands.copies import BackedUpSnapshot, BackupSnapshot
from storpool_commands.envelope import Accepted, Progress
from storpool_commands.errors import ErrorCode
from storpool_commands.images import StoredImage

GIB = 1 << 30
ASKED = " [y/N/d=detach]: "  # its last blank is written when the answer is read
BACKUP = BackupSnapshot(snapshot="~a.b.c", target=StoredImage(store="nfs://nas/export", path="a.qcow2"))
OPTIONS = ("--snapshot", "~a.b.c", "--target-store", "nfs://nas/export", "--target-path", "a.qcow2")
BACKED_UP = BackedUpSnapshot(
    snapshot="a.b.c",
    store="nfs://nas/export",
    path="a.qcow2",
    format="qcow2",
    file_size_bytes=196616,
    virtual_size_bytes=GIB,
    block_hash=f"sha256-1m:{'0' * 64}",
    copies=1,
)


def accepted(of: Request, host: str) -> bytes:
    return encoded(Accepted(id=UUID(of["id"]), host=host))


def progress(of: Request, host: str, **fields: Any) -> bytes:
    return encoded(Progress(id=UUID(of["id"]), host=host, **{"phase": "copy", **fields}))


def copying(host: str, outcome: str | None = "stopping") -> Callable[[Request], Iterable[bytes]]:
    """Says how far it is, and no more until it is cancelled. `outcome`: what the cancel is answered; None: too late."""
    begun: list[Request] = []

    def answer(said: Request) -> Iterable[bytes]:
        if said["body"]["command"] != "cancelCommand":
            begun.append(said)
            yield accepted(said, host)
            yield progress(said, host, bytes_done=GIB, bytes_total=4 * GIB, rate_bytes_s=100 << 20, eta_s=30.72)
        elif outcome is None:
            yield failure(said, ErrorCode.TOO_LATE)
            yield success(begun[0], BACKED_UP)
        else:
            yield success(said, CancelledCommand(id=UUID(said["body"]["id"]), outcome="stopping"))
            yield progress(begun[0], host, phase="undo")
            yield failure(begun[0], ErrorCode.CANCELLED)

    return answer


def test_a_copy_is_waited_for_as_long_as_it_lives(
    url: str, host: str, client: ManagementClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "SILENCE_S", 3.0)

    def answer(said: Request) -> Iterable[bytes]:
        yield accepted(said, host)
        for _ in range(8):
            sleep(0.5)
            yield progress(said, host, stalled_s=1.0)
        yield success(said, BACKED_UP)

    with StandInAgent(url, host, answer) as agent:
        assert client.call(BACKUP, host=host) == BACKED_UP
    assert agent.requests[0]["progress"] is True


def test_a_copy_that_shows_no_sign_of_life_is_waited_for_no_longer(
    url: str, host: str, client: ManagementClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "SILENCE_S", 0.5)
    with (
        StandInAgent(url, host, lambda said: [accepted(said, host)]) as agent,
        pytest.raises(NoReply, match=r"no sign of life in 0\.5 s.*ask again by its id") as raised,
    ):
        client.call(BACKUP, host=host)
    assert [raised.value.request_id] == agent.ids


def test_who_says_how_long_waits_so_long(url: str, host: str, client: ManagementClient) -> None:
    with StandInAgent(url, host, copying(host)), pytest.raises(NoReply, match=r"no reply in 0\.5 s"):
        client.call(BACKUP, host=host, timeout_s=0.5)


def test_a_request_is_cancelled_by_its_id(url: str, host: str, client: ManagementClient) -> None:
    request_id = uuid4()
    with StandInAgent(url, host, copying(host)) as agent:
        with pytest.raises(NoReply):
            client.call(BACKUP, host=host, request_id=request_id, timeout_s=0.5)
        assert client.cancel(request_id, host=host) == CancelledCommand(id=request_id, outcome="stopping")
        with pytest.raises(CommandFailed) as raised:
            client.wait(request_id, timeout_s=10)
    assert raised.value.code is ErrorCode.CANCELLED
    assert agent.exchanges == ["storpool.commands", "storpool.control"]


def test_a_terminal_shows_how_far_a_copy_is(url: str, host: str) -> None:
    with StandInAgent(url, host, copying(host)) as agent, _terminal(url, host) as terminal:
        terminal.until("25 %, 1 GiB of 4 GiB, 100 MiB/s, 31 s left")
        agent.say(progress(agent.requests[0], host, bytes_done=GIB, bytes_total=4 * GIB, stalled_s=34.2))
        terminal.until("25 %, 1 GiB of 4 GiB, stalled 34 s")
        agent.say(success(agent.requests[0], BACKED_UP))
        assert terminal.end() == 0
    assert "\x1b[33mstalled 34 s" in terminal.written
    assert "file_size_bytes" in terminal.shown


def test_ctrl_c_asks_and_yes_cancels(url: str, host: str) -> None:
    with StandInAgent(url, host, copying(host)) as agent, _terminal(url, host) as terminal:
        terminal.until("25 %")
        terminal.press(CTRL_C)
        terminal.until(f"Cancel request {agent.ids[0]} on {host}?{ASKED}")
        terminal.press("y\n")
        assert terminal.end() == 1
    assert [said["body"]["command"] for said in agent.requests] == ["backupSnapshot", "cancelCommand"]
    assert agent.requests[1]["body"]["id"] == str(agent.ids[0])
    assert "cancelled: " in terminal.shown
    assert "the command goes on" not in terminal.shown


def test_while_it_is_cancelled_the_bar_says_so(url: str, host: str) -> None:
    def answer(said: Request) -> Iterable[bytes]:
        if said["body"]["command"] == "cancelCommand":
            yield success(said, CancelledCommand(id=UUID(said["body"]["id"]), outcome="stopping"))
        else:
            yield progress(said, host, bytes_done=0, bytes_total=GIB)

    with StandInAgent(url, host, answer) as agent, _terminal(url, host) as terminal:
        terminal.until("0 %")
        terminal.press(CTRL_C)
        terminal.until(ASKED)
        terminal.press("y\n")
        agent.wait_for(2)
        agent.say(progress(agent.requests[0], host, phase="remove", bytes_done=1 << 20, bytes_total=GIB))
        shown = terminal.until("1 MiB of 1 GiB")
        assert "cancelling" in shown
        assert "remove" not in shown
        agent.say(failure(agent.requests[0], ErrorCode.CANCELLED))
        assert terminal.end() == 1


def test_what_is_finished_before_it_could_be_cancelled_is_a_success(url: str, host: str) -> None:
    with StandInAgent(url, host, copying(host, None)), _terminal(url, host) as terminal:
        terminal.until("25 %")
        terminal.press(CTRL_C)
        terminal.until(ASKED)
        terminal.press("y\n")
        assert terminal.end() == 0
    assert "file_size_bytes" in terminal.shown


@pytest.mark.parametrize("keys", ["\n", "n\n", "x\nN\n"], ids=["nothing", "no", "something else, then no"])
def test_whoever_does_not_want_it_cancelled_goes_on_waiting(url: str, host: str, keys: str) -> None:
    with StandInAgent(url, host, copying(host)) as agent, _terminal(url, host) as terminal:
        terminal.until("25 %")
        terminal.press(CTRL_C)
        terminal.until(ASKED)
        terminal.press(keys)
        agent.say(progress(agent.requests[0], host, bytes_done=2 * GIB, bytes_total=4 * GIB))
        terminal.until("50 %")
        agent.say(success(agent.requests[0], BACKED_UP))
        assert terminal.end() == 0
    assert len(agent.requests) == 1


@pytest.mark.parametrize("keys", [CTRL_C, "d\n", "\x04"], ids=["Ctrl-C once more", "d", "Ctrl-D"])
def test_whoever_leaves_learns_that_the_copy_goes_on(url: str, host: str, keys: str) -> None:
    with StandInAgent(url, host, copying(host)) as agent, _terminal(url, host) as terminal:
        terminal.until("25 %")
        terminal.press(CTRL_C)
        terminal.until(ASKED)
        terminal.press(keys)
        assert terminal.end() == 130
    assert len(agent.requests) == 1
    assert "the command goes on on the host" in terminal.shown
    assert f"query-command --host {host} --id {agent.ids[0]}" in terminal.shown


def test_ctrl_c_while_it_is_cancelled_leaves_it(url: str, host: str) -> None:
    with StandInAgent(url, host, lambda said: [progress(said, host, bytes_done=1)]) as agent:
        with _terminal(url, host) as terminal:
            terminal.until("1 B")
            terminal.press(CTRL_C)
            terminal.until(ASKED)
            terminal.press("y\n")
            terminal.until("cancelling")
            terminal.press(CTRL_C)
            assert terminal.end() == 130
        assert agent.requests[1]["body"]["command"] == "cancelCommand"


def test_a_short_command_is_left_without_a_question(url: str, host: str) -> None:
    arguments = ("--url", url, "--host", host, "connect-physical-disk", "--volume", "~a.b.c")
    with StandInAgent(url, host, silent) as agent, Terminal(*arguments) as terminal:
        agent.wait_for(1)
        terminal.press(CTRL_C)
        assert terminal.end() == 130
    assert "Cancel request" not in terminal.shown


def test_without_a_terminal_a_copy_is_left_as_any_command(url: str, host: str) -> None:
    with (
        StandInAgent(url, host, silent) as agent,
        Popen(_command(url, host), stdout=PIPE, stderr=PIPE, text=True) as running,
    ):
        agent.wait_for(1)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 130
    assert f"query-command --host {host} --id {agent.ids[0]}" in said


@pytest.mark.parametrize(
    ("flag", "lines"),
    [(None, ["copy: 25 %, 1 GiB of 4 GiB", "verify"]), ("--json", []), ("--quiet", [])],
    ids=["plain", "json", "quiet"],
)
def test_without_a_terminal_a_line_comes_now_and_then(url: str, host: str, flag: str | None, lines: list[str]) -> None:
    def answer(said: Request) -> Iterable[bytes]:
        yield accepted(said, host)
        yield progress(said, host, bytes_done=GIB, bytes_total=4 * GIB)
        yield progress(said, host, bytes_done=2 * GIB, bytes_total=4 * GIB)
        yield progress(said, host, phase="verify")
        yield success(said, BACKED_UP)

    with StandInAgent(url, host, answer):
        command = [*_command(url, host), *([flag] if flag else [])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert done.stderr.splitlines() == lines
    assert "a.qcow2" in done.stdout


def _arguments(url: str, host: str) -> list[str]:
    return ["--url", url, "--host", host, "backup-snapshot", *OPTIONS]


def _command(url: str, host: str) -> list[str]:
    return [*PROGRAM, *_arguments(url, host)]


def _terminal(url: str, host: str) -> Terminal:
    return Terminal(*_arguments(url, host))
