# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What `systemctl status` says of the agent, and when it is told."""

from dataclasses import replace
from datetime import datetime

import pytest

from storpool_agent.status_line import Facts, StatusLine, sentence

IDLE = Facts("kvm1", 0, 0, 0.0, (), connected=True, draining=False, troubles=())
NOON = datetime(2026, 11, 27, 12, 3)  # noqa: DTZ001 - local time, as systemd shows it


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (IDLE, "serving kvm1: 0 commands running, broker connected"),
        (replace(IDLE, running=1), "serving kvm1: 1 command running, broker connected"),
        (
            replace(IDLE, running=2, queued=3, oldest_s=130, copies=(43,)),
            "serving kvm1: 2 commands running, 1 copy (43 %), 3 queued (the oldest for 2 min), broker connected",
        ),
        (replace(IDLE, copies=(None, 7)), "serving kvm1: 2 copies (begun, 7 %), broker connected"),
        (
            replace(IDLE, queued=1, oldest_s=10_000),
            "serving kvm1: 0 commands running, 1 queued (the oldest for 2 h), broker connected",
        ),
        (
            replace(IDLE, draining=True),
            "kvm1 is drained and takes no commands: 0 commands running, broker connected",
        ),
        (
            replace(IDLE, troubles=("journal full", "bus/in is stuck")),
            "serving kvm1: journal full, bus/in is stuck, 0 commands running, broker connected",
        ),
    ],
)
def test_one_sentence(facts: Facts, said: str) -> None:
    assert sentence(facts, None) == said


def test_a_broker_that_is_away_is_told_with_since_when() -> None:
    away = replace(IDLE, connected=False)
    assert sentence(away, NOON) == "serving kvm1: 0 commands running, waiting for the broker since 12:03"


def test_it_is_told_when_it_has_become_another() -> None:
    told: list[str] = []
    now, facts = [NOON], [IDLE]
    line = StatusLine(lambda: facts[0], lambda: now[0], told.append)
    line.look()
    line.look()
    facts[0] = replace(IDLE, connected=False)
    line.look()
    now[0] = NOON.replace(hour=13)
    line.look()
    facts[0] = IDLE
    line.look()
    assert told == [
        "STATUS=serving kvm1: 0 commands running, broker connected",
        "STATUS=serving kvm1: 0 commands running, waiting for the broker since 12:03",
        "STATUS=serving kvm1: 0 commands running, broker connected",
    ]
