# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""storpool-ctl as an operator runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen
from uuid import UUID, uuid4

import pika
import pytest

from integration.client.answers import DISK, connected, encoded, failure, silent, success
from integration.client.happenings import publish
from integration.client.stand_in import Request, StandInAgent
from storpool_commands.envelope import Accepted, Failure, Progress, parse_reply
from storpool_commands.errors import ErrorCode

TIMEOUT_S = 60
PROGRAM = [sys.executable, "-c", "from storpool_commands.client.cli import main; main()"]
CONNECT = ("connect-physical-disk", "--volume", "~a.b.c")

Ctl = Callable[..., CompletedProcess[str]]


@pytest.fixture
def ctl(url: str, host: str) -> Ctl:
    def run(*arguments: str, **environment: str) -> CompletedProcess[str]:
        given = {"STORPOOL_CTL_URL": url, "STORPOOL_CTL_HOST": host, **environment}
        return subprocess.run(
            [*PROGRAM, *arguments],
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run


def test_a_success_is_a_table_of_the_result_and_the_steps(url: str, host: str, ctl: Ctl) -> None:
    with StandInAgent(url, host, connected):
        done = ctl(*CONNECT)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["global_id", "a.b.c"],
        ["path", "/dev/storpool-byid/a.b.c"],
        ["real_device", "/dev/sp-1"],
        ["size_bytes", "512", "(512", "B)"],
        ["mode", "rw"],
        ["attached_now", "yes"],
        ["step", "status", "ms"],
        ["attach", "done", "3"],
        ["done", "in", "4", "ms"],
    ]


def test_a_failure_says_what_to_do(url: str, host: str, ctl: Ctl) -> None:
    with StandInAgent(url, host, lambda request: [failure(request, ErrorCode.VOLUME_BUSY, holders=["dd", "vm-1"])]):
        done = ctl(*CONNECT)
    assert (done.returncode, done.stdout) == (1, "")
    assert "volume-busy: vm-1 is open\nIt may succeed later: send it again.\n" in done.stderr
    assert "dd, vm-1" in done.stderr


def test_json_is_the_reply_and_nothing_else(url: str, host: str, ctl: Ctl) -> None:
    def answer(request: Request) -> Iterable[bytes]:
        yield encoded(Accepted(id=UUID(request["id"]), host=host))
        yield encoded(Progress(id=UUID(request["id"]), host=host, phase="attach"))
        yield success(request) if request.get("dryRun") else failure(request, ErrorCode.VOLUME_BUSY)

    with StandInAgent(url, host, answer):
        done = ctl("--json", "--dry-run", *CONNECT)
        failed = ctl(*CONNECT, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["result"] == DISK.model_dump(by_alias=True)
    assert (failed.returncode, failed.stderr) == (1, "")
    assert isinstance(parse_reply(failed.stdout.encode()), Failure)


def test_without_a_reply_the_operator_learns_how_to_ask(url: str, host: str, ctl: Ctl) -> None:
    request_id = str(uuid4())
    with StandInAgent(url, host, silent) as agent:
        done = ctl(*CONNECT, "--timeout", "0.3", "--id", request_id)
        again = ctl(*CONNECT, "--timeout", "0.3", "--id", request_id, "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"storpool-ctl query-command --host {host} --id {request_id}" in done.stderr
    assert (again.returncode, again.stdout) == (3, "")
    assert agent.requests[0] == agent.requests[1]


def test_an_unknown_host_and_an_unknown_broker(ctl: Ctl) -> None:
    unknown = ctl("ping", "--host", "nowhere")
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "no queue of a host nowhere" in unknown.stderr
    refused = ctl("--url", "amqp://guest:canary4711@127.0.0.1", "ping")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr.startswith("no connection to the broker: the broker refused the login of user guest")


def test_any_host_is_refused_what_is_for_one_and_told_that_there_is_none(ctl: Ctl) -> None:
    for_one = ctl(*CONNECT, "--host", "any")
    assert (for_one.returncode, for_one.stdout) == (2, "")
    assert "connectPhysicalDisk is for one host" in for_one.stderr
    by_name = ctl("delete-volume", "--volume", "web", "--host", "any")
    assert by_name.returncode == 2
    assert "global id" in by_name.stderr
    nobody = ctl("delete-volume", "--volume", "~a.b.c", "--host", "any")
    assert (nobody.returncode, nobody.stdout) == (3, "")
    assert "no queue of all hosts" in nobody.stderr


def test_a_password_comes_from_a_file(url: str, host: str, ctl: Ctl, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("guest\n")
    with StandInAgent(url, host, connected):
        done = ctl(*CONNECT, "--url", url.replace("guest:guest@", "guest@"), "--password-file", str(password))
    assert done.returncode == 0


def test_who_interrupts_learns_that_the_command_goes_on(url: str, host: str) -> None:
    with StandInAgent(url, host, silent) as agent, _started("--url", url, "--host", host, *CONNECT) as running:
        agent.wait_for(1)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 130
    assert "the command goes on on the host" in said
    assert f"query-command --host {host} --id {agent.ids[0]}" in said


def test_what_a_host_says_cannot_steer_the_terminal(url: str, host: str, ctl: Ctl) -> None:
    disk = DISK.model_copy(update={"path": "\x1b[2J[bold]\r\n"})
    with StandInAgent(url, host, lambda request: [success(request, disk)]):
        done = ctl(*CONNECT)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "[2J[bold]" in done.stdout


def test_events_are_printed_until_interrupted(url: str, host: str) -> None:
    with (
        StandInAgent(url, host, silent),
        pika.BlockingConnection(pika.URLParameters(url)) as connection,
        _started("--url", url, "--host", host, "events", "--json") as running,
    ):
        channel = connection.channel()
        channel.confirm_delivery()
        publish(channel, host, "attachment.detached")
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["type"] == "attachment.detached"
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 130


@contextmanager
def _started(*arguments: str) -> Iterator[Popen[str]]:
    with Popen([*PROGRAM, *arguments], stdout=PIPE, stderr=PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()
