# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The log as people read it: what is chosen, how it looks, and that no line steers the terminal."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from storpool_agent.cli.exits import TROUBLE
from storpool_agent.cli.logs import logs

REQUEST = "6e8742a9-3c7f-46ae-91a3-e2d90a4d9a15"


def entry(event: str, level: str = "info", **values: Any) -> str:
    return json.dumps({**values, "event": event, "level": level, "timestamp": "2026-01-31T12:00:00.123456Z"})


LINES = [
    "systemd: started",
    entry("ready", took_s=0.1),
    entry(
        "failed",
        "warning",
        request=REQUEST,
        command="detachDisk",
        code="volume-busy",
        reason="it is open",
        facts={"volume": "~d.n.a1"},
    ),
    entry("leftover kept", "warning", owner=REQUEST, kind="use"),
    entry("started", "debug", request="other"),
    entry(
        "crashed",
        "error",
        exception=[
            {
                "exc_type": "ValueError",
                "exc_value": "bad",
                "frames": [{"filename": "/x.py", "lineno": 7, "name": "run"}],
            }
        ],
    ),
]


def run(*arguments: str, text: str = "\n".join(LINES) + "\n") -> list[str]:
    ran = CliRunner().invoke(logs, [*arguments, "-"], input=text, env={"TZ": "UTC"})
    assert ran.exit_code == 0, ran.output
    return ran.output.splitlines()


def test_a_line_is_its_time_its_level_its_event_and_its_values() -> None:
    assert run()[0] == "systemd: started"
    assert run()[1].partition(" ")[2].split(" ", 1)[1] == "info    ready took_s=0.1"
    assert "warning failed 6e8742a9 detachDisk code=volume-busy" in run()[2]
    assert run()[2].endswith('code=volume-busy reason="it is open" facts={"volume": "~d.n.a1"}')


def test_a_traceback_stands_below_its_line() -> None:
    assert run()[-2:] == ["    /x.py:7 in run", "    ValueError: bad"]


@pytest.mark.parametrize("begun", ["6e87", REQUEST, "6E87"])
def test_the_lines_of_a_request_and_of_what_it_has_left(begun: str) -> None:
    assert [line.split()[3] for line in run("--request", begun)] == ["failed", "leftover"]


def test_lines_from_a_level_on() -> None:
    assert [line.split()[3] for line in run("--level", "warning") if line[0] != " "] == [
        "failed",
        "leftover",
        "crashed",
    ]


def test_as_they_were_written() -> None:
    assert run("--json", "--request", "6e87") == [LINES[2], LINES[3]]


def test_what_came_from_elsewhere_does_not_steer_the_terminal() -> None:
    (line, other) = run(text=entry("failed", reason="\x1b[2Jgone\nnext") + "\n\x1b]0;title\x07\n")
    assert "\x1b" not in line + other
    assert other == "\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[1]", '"event"', "\N{SNOWMAN}"])
def test_what_is_no_line_of_the_agents_is_shown_as_it_is(text: str) -> None:
    assert run(text=f"{text}\n") == [text]


def test_a_file_is_shown_as_it_is() -> None:
    ran = CliRunner().invoke(logs, ["--follow", "-"], input="")
    assert (ran.exit_code, "a FILE is shown as it is" in ran.output) == (2, True)


def journalctl(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that says what it was asked."""
    program = directory / "journalctl"
    program.write_text('#!/bin/sh\nfor each in "$@"; do echo "$each"; done\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return program


def test_journalctl_is_asked_for_this_unit_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journalctl(tmp_path, monkeypatch)
    fixed = ["--unit=storpool-agent.service", "--output=cat", "--no-pager", "--quiet"]
    assert CliRunner().invoke(logs, []).output.splitlines() == [*fixed, "--lines=200"]
    asked = CliRunner().invoke(logs, ["-f", "--since", "--unit=ssh"]).output.splitlines()
    assert asked == [*fixed, "--follow", "--since=--unit=ssh"]


def test_a_host_without_journald_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = CliRunner().invoke(logs, [])
    assert (ran.exit_code, "there is no journalctl here" in ran.output) == (TROUBLE, True)
