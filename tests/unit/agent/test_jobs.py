# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From accepted to replied: queued for its objects, cancelled or run, finished once."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.testing import capture_logs

from fake_host import FakeHost
from fake_outbox import FakeOutbox
from storpool_agent.deadline import Deadline
from storpool_agent.errors import JournalUnavailable
from storpool_agent.job import MAX_ATTEMPTS
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.lanes import Lane, Lanes
from storpool_commands.catalogue import Command
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.envelope import Request
from storpool_commands.errors import ErrorCode
from storpool_commands.pools import AddStoragePool
from storpool_commands.volumes import CreateVolume

WAIT_S = 5.0
CREATE = CreateVolume(size_bytes=512, template="dev")
ADD = AddStoragePool(name="p", url=SecretStr("SP_API_HTTP=h:1;SP_AUTH_TOKEN=t;SP_TEMPLATE=dev"))


class Office:
    """Jobs over fakes, with one worker that can be kept busy."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.fakes = FakeHost(journal)
        self.outbox = FakeOutbox()
        self.lane = Lane("fast", 1)
        outbox: Any = self.outbox
        host = self.fakes.host
        self.jobs = Jobs(host, journal, outbox, Lanes(*[self.lane] * 4))
        self.free = threading.Event()
        self.lane.start()

    def keep_busy(self) -> None:
        self.lane.put(self._wait_until_free)

    def submit(
        self,
        command: Command = CREATE,
        *,
        attempts: int = 0,
        recovered: bool = False,
        publisher: str | None = None,
        **envelope: Any,
    ) -> str:
        request = Request(id=uuid4(), protocol=1, body=command, **envelope)
        self.journal.accept([Arrival(str(request.id), command.command, b"{}", publisher, "mgmt")])
        self.jobs.submit(request, attempts, recovered=recovered, publisher=publisher)
        return str(request.id)

    def _wait_until_free(self) -> None:
        self.free.wait(WAIT_S)

    def close(self) -> None:
        self.free.set()
        self.jobs.abandon()
        self.lane.drain()
        assert self.lane.join(Deadline.after(WAIT_S))


@pytest.fixture
def office(journal: Journal) -> Iterator[Office]:
    office = Office(journal)
    yield office
    office.close()


def test_a_request_is_run_and_its_reply_put_out(office: Office) -> None:
    request_id = office.submit()
    (reply,) = office.outbox.replies(1)
    assert (reply["id"], reply["status"]) == (request_id, "success")
    record = office.journal.record(request_id)
    assert record is not None
    assert (record.state, record.attempts) == ("finished", 1)


def test_a_queued_request_is_cancelled_once_and_never_run(office: Office) -> None:
    office.keep_busy()
    request_id = office.submit()
    assert office.jobs.cancel(request_id) == "cancelled"
    assert office.jobs.cancel(request_id) is None
    office.free.set()
    office.submit()
    first, second = office.outbox.replies(2)
    assert (first["id"], first["code"], second["status"]) == (request_id, ErrorCode.CANCELLED, "success")
    record = office.journal.record(request_id)
    assert record is not None
    assert (record.state, record.attempts) == ("finished", 0)
    assert len(office.outbox.sent) == 2


def test_a_cancel_that_comes_as_the_request_starts_stops_the_attempt(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal's note must not set a request that was finished by its cancel back to running."""
    outcomes: list[str | None] = []
    start = office.journal.start

    def started(request_id: str) -> int:
        outcomes.append(office.jobs.cancel(request_id))
        return start(request_id)

    monkeypatch.setattr(office.journal, "start", started)
    office.submit()
    (reply,) = office.outbox.replies(1)
    assert outcomes == ["stopping"]
    assert reply["code"] == ErrorCode.CANCELLED
    assert office.journal.unfinished() == []
    assert office.fakes.storpool.volumes == {}


def test_a_request_that_cannot_be_noted_as_started_is_not_run(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_request_id: str) -> int:
        raise JournalUnavailable("full")

    monkeypatch.setattr(office.journal, "start", start)
    office.submit()
    (reply,) = office.outbox.replies(1)
    assert (reply["code"], reply["steps"]) == (ErrorCode.JOURNAL_UNAVAILABLE, [])


def ended(lines: list[Any]) -> list[tuple[Any, ...]]:
    """What an audit reads of how requests ended."""
    names = ("event", "request", "command", "publisher", "code")
    return [tuple(line.get(name) for name in names) for line in lines if line.get("audit")]


def test_how_a_request_ended_is_in_the_log_with_who_had_asked(office: Office) -> None:
    with capture_logs([merge_contextvars]) as lines:
        done = office.submit(publisher="cloud")
        failed = office.submit(ConnectPhysicalDisk(volume="~a.b.c"), publisher="backup")
        office.outbox.replies(2)
    assert ended(lines) == [
        ("done", done, "createVolume", "cloud", None),
        ("failed", failed, "connectPhysicalDisk", "backup", ErrorCode.VOLUME_NOT_FOUND),
    ]


def test_so_is_one_that_is_never_run(office: Office) -> None:
    with capture_logs([merge_contextvars]) as lines:
        late = office.submit(deadline=datetime.now(UTC) - timedelta(seconds=1), publisher="cloud")
        office.outbox.replies(1)
        office.keep_busy()
        cancelled = office.submit(publisher="backup")
        with bound_contextvars(request="that of the cancel", command="cancelCommand", publisher="admin"):
            office.jobs.cancel(cancelled)
    assert ended(lines) == [
        ("failed", late, "createVolume", "cloud", ErrorCode.DEADLINE_PASSED),
        ("failed", cancelled, "createVolume", "backup", ErrorCode.CANCELLED),
    ]


def test_an_unknown_request_is_not_cancelled(office: Office) -> None:
    assert office.jobs.cancel(str(uuid4())) is None


def test_a_deadline_that_has_passed_is_not_started(office: Office) -> None:
    office.submit(deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert office.outbox.replies(1)[0]["code"] == ErrorCode.DEADLINE_PASSED


def test_a_request_that_was_started_once_goes_on_after_its_deadline(office: Office) -> None:
    office.submit(attempts=1, deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert office.outbox.replies(1)[0]["status"] == "success"


def test_a_request_that_the_agent_never_survived_is_not_run_again(office: Office) -> None:
    office.submit(attempts=MAX_ATTEMPTS)
    (reply,) = office.outbox.replies(1)
    assert (reply["code"], reply["facts"]["attempts"]) == (ErrorCode.CRASH_LOOP, MAX_ATTEMPTS)


@pytest.mark.parametrize(("attempts", "side_effects"), [(0, "none"), (1, "partial")])
def test_a_request_that_outlived_its_secret_is_not_run(office: Office, attempts: int, side_effects: str) -> None:
    office.submit(ADD, attempts=attempts, recovered=True)
    (reply,) = office.outbox.replies(1)
    assert (reply["code"], reply["sideEffects"]) == (ErrorCode.SECRET_NOT_KEPT, side_effects)
    assert office.fakes.pools.kept == {}


def test_a_request_with_a_secret_is_run_when_it_arrives(office: Office) -> None:
    office.submit(ADD)
    assert office.outbox.replies(1)[0]["status"] == "success"
    assert list(office.fakes.pools.kept) == ["p"]


def test_what_is_not_finished_is_counted(office: Office) -> None:
    office.keep_busy()
    cancelled = office.submit()
    office.submit(ConnectPhysicalDisk(volume="~a.b.c"))
    assert len(office.jobs.unfinished()) == 2
    office.jobs.cancel(cancelled)
    assert len(office.jobs.unfinished()) == 1
    office.free.set()
    office.outbox.replies(2)
    done = threading.Event()
    office.jobs.alongside(frozenset({"volume:a.b.c"}), done.set)
    assert done.wait(WAIT_S)
    assert len(office.jobs.unfinished()) == 0


def test_a_dry_run_changes_nothing(office: Office) -> None:
    office.submit(dry_run=True)
    (reply,) = office.outbox.replies(1)
    assert reply["result"] == {"command": "dryRun", "bodyCommand": "createVolume"}
    assert office.fakes.storpool.volumes == {}


def test_a_failure_names_what_the_sender_named(office: Office) -> None:
    office.submit(ConnectPhysicalDisk(volume="~a.b.c"))
    (reply,) = office.outbox.replies(1)
    assert (reply["code"], reply["facts"]["volume"]) == (ErrorCode.VOLUME_NOT_FOUND, "~a.b.c")


def test_an_abandoned_request_keeps_no_failure(office: Office) -> None:
    """It was the stop that made it fail: the next start runs it."""
    office.keep_busy()
    request_id = office.submit(ConnectPhysicalDisk(volume="~a.b.c"))
    office.jobs.abandon()
    office.free.set()
    done = threading.Event()
    office.lane.put(done.set)
    assert done.wait(WAIT_S)
    assert office.outbox.sent == []
    assert [one.id for one in office.journal.unfinished()] == [request_id]


def test_work_of_the_agents_own_takes_its_turn(office: Office) -> None:
    office.keep_busy()
    office.submit(ConnectPhysicalDisk(volume="~a.b.c"))
    seen: list[int] = []
    done = threading.Event()

    def work() -> None:
        seen.append(len(office.outbox.sent))
        done.set()

    office.jobs.alongside(frozenset({"volume:a.b.c"}), work)
    office.free.set()
    assert done.wait(WAIT_S)
    assert seen == [1]
