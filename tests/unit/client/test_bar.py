# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How far a copy is, in words."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from storpool_commands.client.cli.bar import LINE_EVERY_S, Lines, facts
from storpool_commands.control import JobProgress
from storpool_commands.envelope import Accepted, Progress
from unit.commands.samples import ID

GIB = 1 << 30


def progress(**fields: Any) -> Progress:
    return Progress(id=ID, host="kvm1", **{"phase": "copy", **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({}, "", id="nothing is known"),
        pytest.param({"bytes_done": 512}, "512 B", id="of nobody knows how much"),
        pytest.param({"bytes_done": 0, "bytes_total": 0}, "0 B", id="of nothing"),
        pytest.param({"bytes_done": GIB - 1, "bytes_total": GIB}, "99 %, 1024 MiB of 1 GiB", id="not yet all"),
        pytest.param({"bytes_done": 3 * GIB, "bytes_total": GIB}, "100 %, 3 GiB of 1 GiB", id="more than expected"),
        pytest.param(
            {"bytes_done": GIB, "bytes_total": 10 * GIB, "rate_bytes_s": 100 << 20, "eta_s": 92.16},
            "10 %, 1 GiB of 10 GiB, 100 MiB/s, 1 min 32 s left",
            id="all is known",
        ),
        pytest.param({"eta_s": 3 * 3600 + 61}, "3 h 01 min left", id="hours are left"),
        pytest.param(
            {"bytes_done": GIB, "rate_bytes_s": 0, "eta_s": 5, "stalled_s": 33.7}, "1 GiB, stalled 34 s", id="stalled"
        ),
    ],
)
def test_what_is_known_is_said(fields: dict[str, Any], said: str) -> None:
    assert facts(JobProgress(phase="copy", **fields)).plain == said


def test_only_a_stall_is_yellow() -> None:
    assert [span.style for span in facts(JobProgress(phase="copy", stalled_s=34, bytes_done=1)).spans] == ["yellow"]
    assert facts(JobProgress(phase="copy", rate_bytes_s=34, bytes_done=1)).spans == []


def test_a_line_comes_with_each_phase_and_every_ten_seconds() -> None:
    written = StringIO()
    now = 1000.0
    lines = Lines(Console(file=written), clock=lambda: now)
    lines.show(Accepted(id=ID, host="kvm1"))
    for after_s, phase in ((0, "copy"), (LINE_EVERY_S - 1, "copy"), (LINE_EVERY_S, "copy"), (LINE_EVERY_S, "verify")):
        now = 1000.0 + after_s
        lines.show(progress(phase=phase, bytes_done=int(after_s)))
    assert written.getvalue().splitlines() == ["copy: 0 B", "copy: 10 B", "verify: 10 B"]


def test_a_phase_cannot_steer_the_terminal() -> None:
    written = StringIO()
    Lines(Console(file=written)).show(progress(phase="\x1b[2J[bold]"))
    assert written.getvalue() == "\N{REPLACEMENT CHARACTER}[2J[bold]\n"
