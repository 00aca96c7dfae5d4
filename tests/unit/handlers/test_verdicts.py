# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is done about a machine, for each pair of what its two hosts say: never anything that could run it twice."""

from itertools import product

import pytest

from storpool_agent.domains.model import Presence
from storpool_agent.handlers.verdicts import Verdict, judge

STANDINGS: dict[str, Presence | None] = {
    "not known": None,
    "absent": Presence("absent"),
    "off": Presence("off"),
    "running": Presence("running"),
    "paused": Presence("paused"),
    "sent": Presence("paused", by_migration=True),
    "leaving": Presence("leaving"),
    "arriving": Presence("arriving"),
}
TABLE = {
    # here: there -> verdict
    "running": {
        "not known": Verdict.STAYED,
        "absent": Verdict.STAYED,
        "off": Verdict.STAYED,
        "running": Verdict.UNKNOWN,
        "paused": Verdict.DROP_THERE,
        "arriving": Verdict.WAIT,
    },
    "paused": {
        "not known": Verdict.WAIT,
        "absent": Verdict.STAYED,
        "off": Verdict.STAYED,
        "running": Verdict.UNKNOWN,
        "paused": Verdict.UNKNOWN,
        "arriving": Verdict.WAIT,
    },
    "sent": {
        "not known": Verdict.WAIT,
        "absent": Verdict.STRANDED,
        "off": Verdict.STRANDED,
        "running": Verdict.MOVED,
        "paused": Verdict.DROP_HERE,
        "arriving": Verdict.WAIT,
    },
    "absent": {
        "not known": Verdict.WAIT,
        "absent": Verdict.UNKNOWN,
        "off": Verdict.UNKNOWN,
        "running": Verdict.MOVED,
        "paused": Verdict.START_THERE,
        "arriving": Verdict.WAIT,
    },
    "off": {
        "not known": Verdict.WAIT,
        "absent": Verdict.ENDED,
        "off": Verdict.ENDED,
        "running": Verdict.MOVED,
        "paused": Verdict.START_THERE,
        "arriving": Verdict.WAIT,
    },
    "leaving": dict.fromkeys(("not known", "absent", "off", "running", "paused", "arriving"), Verdict.WAIT),
    "not known": dict.fromkeys(("not known", "absent", "off", "running", "paused", "arriving"), Verdict.WAIT),
}


@pytest.mark.parametrize(
    ("here", "there", "verdict"),
    [(here, there, verdict) for here, row in TABLE.items() for there, verdict in row.items()],
)
def test_each_pair_has_its_verdict(here: str, there: str, verdict: Verdict) -> None:
    assert judge(STANDINGS[here], STANDINGS[there]) is verdict


def test_a_machine_that_was_stopped_after_it_had_moved_has_moved() -> None:
    assert judge(STANDINGS["absent"], STANDINGS["paused"], has_moved=True) is Verdict.MOVED


def test_a_machine_that_has_run_there_is_not_removed_there_when_somebody_has_started_it_here() -> None:
    assert judge(STANDINGS["running"], STANDINGS["paused"], has_moved=True) is Verdict.UNKNOWN


@pytest.mark.parametrize(("here", "there", "has_moved"), list(product(STANDINGS, STANDINGS, (False, True))))
def test_nothing_is_started_or_removed_unless_it_runs_nowhere_else(here: str, there: str, has_moved: bool) -> None:
    verdict = judge(STANDINGS[here], STANDINGS[there], has_moved=has_moved)
    allowed = {
        Verdict.START_THERE: here in ("absent", "off") and there in ("paused", "sent"),
        Verdict.DROP_HERE: here == "sent" and there in ("paused", "sent"),
        Verdict.DROP_THERE: here == "running" and there in ("paused", "sent"),
        Verdict.MOVED: here in ("absent", "off", "sent") and there in ("running", "paused", "sent"),
        Verdict.STRANDED: here == "sent" and there in ("absent", "off"),
    }
    assert allowed.get(verdict, True)
