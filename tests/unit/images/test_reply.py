# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the children have in common: their answers, their pace, and what they are not told about."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import pytest

from storpool_agent.images import delegation
from storpool_agent.images.foreign import reply, web
from storpool_agent.images.foreign.reply import Code, Progress, Refusal, Throttle
from storpool_commands.errors import ErrorCode


class Clock:
    """Stands still but for who sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(reply, "monotonic", lambda: made.now)
    monkeypatch.setattr(reply, "sleep", made.sleep)
    return made


def test_each_code_is_one_of_the_contract_and_has_its_error() -> None:
    assert {ErrorCode(code) for code in get_args(Code)} == set(delegation._ERRORS)


@pytest.mark.parametrize(
    ("work", "answer"),
    [
        (lambda: {"bytes": 7}, {"result": {"bytes": 7}}),
        (
            lambda: _raise(Refusal("image-refused", "it is", version=4)),
            {"refused": "image-refused", "message": "it is", "facts": {"version": 4}},
        ),
        (
            lambda: _raise(OSError(errno.EIO, "?")),
            {"refused": "copy-failed", "message": "Input/output error", "facts": {}},
        ),
        (
            lambda: _raise(MemoryError()),
            {"refused": "image-refused", "message": "it takes more memory than it may", "facts": {}},
        ),
    ],
    ids=["result", "refusal", "failure of the system", "limit of memory"],
)
def test_its_answer_is_a_line(
    work: Callable[[], Mapping[str, object]], answer: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    reply.run(work)
    assert json.loads(capsys.readouterr().out) == answer


def _raise(error: Exception) -> Mapping[str, object]:
    raise error


def test_progress_is_told_a_few_times_a_second(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(100)
    for done in range(10):
        progress.at(done)
        clock.now += 0.125
    assert [json.loads(line)["done"] for line in capsys.readouterr().out.splitlines()] == [0, 2, 4, 6, 8]


def test_a_throttle_holds_the_average(clock: Clock) -> None:
    throttle = Throttle(1000)
    for _ in range(100):
        throttle.moved(500)
    assert clock.now == pytest.approx(1050)


def test_a_throttle_does_not_let_an_hour_of_silence_be_made_up_for(clock: Clock) -> None:
    throttle = Throttle(1000)
    clock.now += 3600
    throttle.moved(5000)
    assert clock.now == pytest.approx(4604)


def test_no_throttle_no_pause(clock: Clock) -> None:
    Throttle(None).moved(1 << 40)
    assert clock.now == 1000


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/path/image.qcow2?X-Signature=secret", "https://host/path/image.qcow2"),
        ("https://user:secret@host:8443/image", "https://host:8443/image"),
        ("http://[fd00::1]:80/a#secret", "http://[fd00::1]:80/a"),
    ],
)
def test_a_url_is_shown_without_what_lets_others_in(url: str, shown: str) -> None:
    assert web.shown(url) == shown


@pytest.mark.parametrize("module", ["inspector", "unpacker"])
def test_a_child_imports_little(module: str) -> None:
    """It starts often, within a limited address space."""
    code = f"import sys, storpool_agent.images.foreign.{module}; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-E", "-s", "-c", code],
        cwd=delegation.DIRECTORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert not {"pydantic", "structlog", "urllib3", "storpool_commands"} & set(imported)


def test_the_package_is_where_children_are_started() -> None:
    assert (delegation.DIRECTORY / "storpool_agent" / "images" / "foreign" / "reply.py").samefile(Path(reply.__file__))
    assert os.access(delegation.DIRECTORY, os.X_OK)
