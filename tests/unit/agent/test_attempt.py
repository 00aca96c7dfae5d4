# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Steps, and what a failure says it has left changed."""

from uuid import uuid4

import pytest

from storpool_agent.attempt import Attempt
from storpool_agent.errors import AgentError, Cancelled, StaleGeneration, StorPoolTimeout, VolumeBusy
from storpool_agent.journal.journal import Arrival, Journal
from storpool_commands.control import Ping
from storpool_commands.envelope import AnyRequest, Request
from storpool_commands.volumes import CreateVolume


@pytest.fixture
def attempt(journal: Journal) -> Attempt:
    return attempt_number(1, journal)


def attempt_number(number: int, journal: Journal) -> Attempt:
    request = Request(id=uuid4(), protocol=1, body=Ping())
    journal.accept([Arrival(str(request.id), "ping", b"", None, None)])
    return Attempt(request, journal, number)


def test_what_a_first_attempt_makes_is_not_there_yet(journal: Journal) -> None:
    assert [attempt_number(number, journal).may_have_run for number in (1, 2)] == [False, True]


def test_what_a_request_for_any_host_makes_may_always_be_there(journal: Journal) -> None:
    request = AnyRequest(id=uuid4(), protocol=1, body=CreateVolume(size_bytes=512, template="dev"))
    assert Attempt(request, journal, 1).may_have_run


def fail(attempt: Attempt, error: Exception, *, changes: bool = True) -> None:
    with pytest.raises(type(error)), attempt.step("attach", changes=changes):
        raise error


def test_looking_is_no_side_effect(attempt: Attempt) -> None:
    with attempt.step("find"):
        pass
    assert attempt.side_effects == "none"


def test_a_change_is_a_side_effect(attempt: Attempt) -> None:
    with attempt.step("attach", changes=True):
        pass
    assert attempt.side_effects == "partial"


def test_a_change_that_was_there_already_is_none(attempt: Attempt) -> None:
    with attempt.step("attach", changes=True) as step:
        step.already()
    assert attempt.side_effects == "none"
    assert [step.status for step in attempt.steps] == ["already"]


def test_a_change_that_was_refused_is_none(attempt: Attempt) -> None:
    fail(attempt, VolumeBusy("busy"))
    assert attempt.side_effects == "none"
    assert [step.status for step in attempt.steps] == ["failed"]


@pytest.mark.parametrize("error", [StorPoolTimeout("lost"), RuntimeError("a defect")])
def test_a_change_of_unknown_outcome_is_a_side_effect(attempt: Attempt, error: Exception) -> None:
    fail(attempt, error)
    assert attempt.side_effects == "partial"


def test_a_look_of_unknown_outcome_is_none(attempt: Attempt) -> None:
    fail(attempt, StorPoolTimeout("lost"), changes=False)
    assert attempt.side_effects == "none"


def test_a_change_that_was_undone_is_none(attempt: Attempt) -> None:
    with attempt.step("attach", changes=True):
        pass
    with attempt.undo("attach"):
        pass
    assert attempt.side_effects == "none"
    assert [step.status for step in attempt.steps] == ["undone"]


def test_an_undo_that_fails_leaves_the_change_and_the_first_failure(attempt: Attempt) -> None:
    with pytest.raises(VolumeBusy):
        _attach_fail_and_fail_to_undo(attempt)
    assert attempt.side_effects == "partial"
    assert [step.status for step in attempt.steps] == ["done", "failed"]


def test_undoing_one_change_leaves_the_others(attempt: Attempt) -> None:
    for name in ("attach", "plug"):
        with attempt.step(name, changes=True):
            pass
    with attempt.undo("plug"):
        pass
    assert attempt.side_effects == "partial"


def test_a_cancelled_attempt_takes_no_more_steps(attempt: Attempt) -> None:
    with attempt.step("find"):
        attempt.cancel()
    with pytest.raises(Cancelled) as cancelled, attempt.step("attach", changes=True):
        pytest.fail("it was taken")
    assert cancelled.value.facts == {"step": "attach"}
    assert [step.step for step in attempt.steps] == ["find"]


def test_a_note_is_known_to_a_later_attempt_only(journal: Journal) -> None:
    first = attempt_number(1, journal)
    first.note("attach", "a.b.c")
    assert not first.noted("attach", "a.b.c")
    assert journal.noted(first.request_id, "attach", "a.b.c")


def test_an_older_generation_does_not_pass(journal: Journal) -> None:
    attempt_number(1, journal).fence("a.b.c", 6)
    attempt_number(1, journal).fence("a.b.c", None)
    attempt_number(1, journal).fence("a.b.c", 6)
    with pytest.raises(StaleGeneration) as stale:
        attempt_number(1, journal).fence("a.b.c", 5)
    assert stale.value.facts == {"volume": "a.b.c", "generation": 5, "seen_generation": 6}


def test_a_settled_unplug_is_forgotten(attempt: Attempt) -> None:
    attempt.forget_unplug("a.b.c")
    attempt.expect_unplug("a.b.c", "vm")
    pending = attempt.pending_unplug("a.b.c")
    assert pending is not None
    assert (pending.vm, pending.command) == ("vm", attempt.request_id)
    attempt.forget_unplug("a.b.c")
    assert attempt.pending_unplug("a.b.c") is None


def _attach_fail_and_fail_to_undo(attempt: Attempt) -> None:
    with attempt.step("attach", changes=True):
        pass
    try:
        with attempt.step("device"):
            raise VolumeBusy("busy")
    except AgentError:
        with attempt.undo("attach"):
            raise StorPoolTimeout("lost") from None
        raise


def test_what_an_earlier_run_made_and_this_one_cannot_undo_is_a_side_effect(attempt: Attempt) -> None:
    with pytest.raises(AgentError), attempt.step("find"):
        raise VolumeBusy("no")
    assert attempt.side_effects == "none"
    with attempt.undo("publish"):
        raise VolumeBusy("still no")
    assert attempt.side_effects == "partial"
