# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests of the queue of all hosts: acked once their reply is stored, given back while they have not begun."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pytest_mock import MockerFixture

from storpool_agent.errors import JournalUnavailable
from storpool_agent.job import MAX_ATTEMPTS
from storpool_agent.journal.journal import Arrival, Journal, Verdict
from storpool_commands.envelope import AnyRequest, Request
from storpool_commands.errors import ErrorCode
from unit.agent.test_jobs import CREATE, WAIT_S, Office


class Counter(Office):
    """An office that also serves the queue of all hosts; `acked` is in order."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.acked: list[str] = []

    def serve(self, name: str, *, request_id: UUID | None = None, attempts: int = 0, **envelope: Any) -> AnyRequest:
        request = AnyRequest(id=request_id or uuid4(), protocol=1, body=CREATE, **envelope)
        self.accept(request, shared=True)
        self.jobs.serve(request, attempts, lambda: self.acked.append(name))
        return request

    def accept(self, request: Request, *, shared: bool) -> Verdict:
        arrival = Arrival(str(request.id), "createVolume", b"{}", None, "mgmt", shared)
        ((verdict, _),) = self.journal.accept([arrival])
        return verdict

    def state(self, request: Request) -> str | None:
        record = self.journal.record(str(request.id))
        return record.state if record else None

    def finish_all(self) -> None:
        """Until everything that was put into the lane before is done."""
        self.free.set()
        done = threading.Event()
        self.lane.put(done.set)
        assert done.wait(WAIT_S)


@pytest.fixture
def office(journal: Journal) -> Iterator[Counter]:
    office = Counter(journal)
    yield office
    office.close()


def test_it_is_acked_when_its_reply_is_stored(office: Counter) -> None:
    office.keep_busy()
    request = office.serve("a")
    assert (office.acked, office.state(request)) == ([], "accepted")
    office.finish_all()
    assert office.outbox.replies(1)[0]["status"] == "success"
    assert (office.acked, office.state(request)) == (["a"], "finished")


def test_it_is_not_acked_while_its_reply_cannot_be_stored(office: Counter, mocker: MockerFixture) -> None:
    told: list[Any] = []
    mocker.patch.object(office.journal, "finish_soon", side_effect=lambda *given: told.append(given))
    request = office.serve("a")
    office.finish_all()
    ((_, _, done, _),) = told
    assert (office.acked, office.state(request)) == ([], "running")
    done([])
    assert office.acked == ["a"]


def test_all_that_came_while_it_ran_is_acked_with_it_and_it_ran_once(office: Counter) -> None:
    office.keep_busy()
    request = office.serve("a")
    office.serve("b", request_id=request.id)
    office.finish_all()
    assert office.acked == ["a", "b"]
    assert len(office.fakes.storpool.volumes) == 1


def test_what_comes_as_it_finishes_is_acked_at_once(office: Counter) -> None:
    """The journal had it unfinished, and by now it is not."""
    request = office.serve("a")
    office.finish_all()
    office.jobs.serve(request, 0, lambda: office.acked.append("b"))
    assert office.acked == ["a", "b"]
    assert len(office.fakes.storpool.volumes) == 1


def test_a_lost_connection_gives_back_what_has_not_begun(office: Counter) -> None:
    office.keep_busy()
    request = office.serve("a")
    office.jobs.give_back()
    office.finish_all()
    assert (office.acked, office.state(request), len(office.fakes.storpool.volumes)) == ([], None, 0)
    office.serve("b", request_id=request.id)
    office.finish_all()
    assert (office.acked, office.state(request), len(office.fakes.storpool.volumes)) == (["b"], "finished", 1)


def test_what_is_given_back_and_stays_in_a_broken_journal_is_run_when_it_comes_again(
    office: Counter, mocker: MockerFixture
) -> None:
    office.keep_busy()
    request = office.serve("a")
    mocker.patch.object(office.journal, "drop", side_effect=JournalUnavailable("full"))
    office.jobs.give_back()
    assert office.accept(request, shared=True) is Verdict.UNFINISHED
    office.jobs.serve(request, 1, lambda: office.acked.append("b"))
    office.finish_all()
    assert office.acked == ["b"]


def test_what_this_host_was_asked_for_as_well_is_not_given_back(office: Counter) -> None:
    office.keep_busy()
    request = office.serve("a")
    assert office.accept(request, shared=False) is Verdict.UNFINISHED
    office.jobs.keep(request)
    office.jobs.give_back()
    assert office.journal.drop_shared() == 0
    office.finish_all()
    assert office.outbox.replies(1)[0]["status"] == "success"


def test_a_request_of_this_host_that_nobody_runs_is_run_when_it_comes_again(office: Counter) -> None:
    request = Request(id=uuid4(), protocol=1, body=CREATE)
    office.accept(request, shared=False)
    office.jobs.keep(request)
    assert office.outbox.replies(1)[0]["status"] == "success"


def test_a_cancelled_one_is_acked(office: Counter) -> None:
    office.keep_busy()
    request = office.serve("a")
    assert office.jobs.cancel(str(request.id)) == "cancelled"
    assert office.acked == ["a"]
    office.jobs.serve(request, 0, lambda: office.acked.append("b"))
    assert office.acked == ["a", "b"]
    assert office.outbox.replies(1)[0]["code"] == ErrorCode.CANCELLED


def test_one_that_no_agent_answered_is_given_up_and_says_where_to_look(office: Counter) -> None:
    request = office.serve("a", attempts=MAX_ATTEMPTS)
    (reply,) = office.outbox.replies(1)
    assert (reply["code"], reply["facts"]["attempts"]) == (ErrorCode.CRASH_LOOP, MAX_ATTEMPTS)
    assert f"sp-op={request.id}" in reply["message"]


@pytest.mark.parametrize(("attempts", "status"), [(0, "failure"), (1, "success")])
def test_a_deadline_stops_only_what_no_agent_can_have_begun(office: Counter, attempts: int, status: str) -> None:
    office.serve("a", attempts=attempts, deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert office.outbox.replies(1)[0]["status"] == status
