# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Progress: to who asked for it, and to who listens; often while it moves, and not too seldom when it does not."""

import json
import threading
from collections.abc import Iterator
from typing import Any, cast
from uuid import uuid4

import pytest

from fake_host import FakeHost
from fake_outbox import FakeOutbox
from storpool_agent import reporting
from storpool_agent.bus.publisher import Message
from storpool_agent.errors import JournalUnavailable
from storpool_agent.job import Job
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.lanes import Lane, Lanes
from storpool_agent.reporting import ALIVE_S, Reporting
from storpool_commands import topology
from storpool_commands.copies import BackupSnapshot
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.envelope import PROGRESS_EVERY_S, Request
from storpool_commands.images import StoredImage

WAIT_S = 5.0
BACKUP = BackupSnapshot(snapshot="~a.b.c", target=StoredImage(store="file:///srv", path="x"))


class FakePublisher:
    """Notes what is published; `ticks` is counted up with it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.ticks = threading.Semaphore(0)

    def publish(self, *messages: Message) -> None:
        self.messages += messages
        self.ticks.release()

    def bodies(self, exchange: str) -> list[dict[str, Any]]:
        return [json.loads(one.body) for one in self.messages if one.exchange == exchange]


class Press:
    """Reporting of copies that never begin: their lane has no thread at work."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.publisher = FakePublisher()
        self.lane = Lane("idle", 1)
        self.connected = True
        host = FakeHost(journal).host
        self.jobs = Jobs(host, journal, cast(Any, FakeOutbox()), Lanes(*[self.lane] * 4))
        self.reporting = Reporting("kvm1", self.jobs, journal, self.publisher, lambda: self.connected)

    def submit(self, *askers: str, progress: bool = True, command: Any = BACKUP) -> Job:
        request = Request(id=uuid4(), protocol=1, body=command, progress=progress)
        for word in askers or ("",):
            self.journal.accept([Arrival(str(request.id), command.command, b"{}", None, word or None)])
        self.jobs.submit(request)
        return self.jobs._jobs[str(request.id)]

    def tell(self, job: Job) -> int:
        """How many messages that makes."""
        before = len(self.publisher.messages)
        self.reporting._tell(job)
        return len(self.publisher.messages) - before


@pytest.fixture
def press(journal: Journal) -> Press:
    return Press(journal)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reporting, "monotonic", clock)
    return clock


def test_all_who_have_asked_get_it_and_so_do_those_who_listen(press: Press) -> None:
    job = press.submit("mgmt", "other")
    job.meter.note("copy", 5, 10)
    press.tell(job)
    keys = [(one.exchange, one.routing_key) for one in press.publisher.messages]
    assert keys == [
        (topology.EVENTS, topology.event_key("kvm1", "progress.backupSnapshot")),
        (topology.REPLIES, topology.reply_key("kvm1", "mgmt")),
        (topology.REPLIES, topology.reply_key("kvm1", "other")),
    ]
    progress = press.publisher.bodies(topology.REPLIES)[0]
    assert {
        "id": str(job.request.id),
        "status": "progress",
        "phase": "copy",
        "bytesDone": 5,
        "bytesTotal": 10,
    }.items() <= (progress.items())
    (event,) = press.publisher.bodies(topology.EVENTS)
    assert (event["type"], event["subject"]) == ("com.storpool.agent.progress.backupSnapshot", str(job.request.id))
    assert event["data"]["bytesDone"] == 5
    assert {one.correlation_id for one in press.publisher.messages if one.exchange == topology.REPLIES} == {
        str(job.request.id)
    }
    assert not any(one.mandatory for one in press.publisher.messages)


def test_who_has_not_asked_gets_the_reply_alone(press: Press) -> None:
    job = press.submit("mgmt", progress=False)
    press.tell(job)
    assert [one.exchange for one in press.publisher.messages] == [topology.EVENTS]


def test_a_copy_that_waits_for_its_turn_says_so(press: Press) -> None:
    press.tell(press.submit("mgmt"))
    assert press.publisher.bodies(topology.REPLIES)[0]["phase"] == "queued"


def test_what_moves_is_told_each_time_and_what_stands_at_least_every_five_seconds(press: Press, clock: Clock) -> None:
    job = press.submit()
    job.meter.note("copy", 5, 10)
    assert [press.tell(job), press.tell(job)] == [1, 0]
    job.meter.note("copy", 6, 10)
    assert press.tell(job) == 1
    job.meter.note("verify", 6, 10)
    assert press.tell(job) == 1
    clock.now += ALIVE_S - 0.1
    assert press.tell(job) == 0
    clock.now += 0.1
    assert [press.tell(job), press.tell(job)] == [1, 0]


def test_a_sender_hears_as_often_as_the_protocol_says() -> None:
    assert reporting.ALIVE_S + reporting.PUBLISH_S <= PROGRESS_EVERY_S


def test_a_journal_that_cannot_be_read_keeps_the_event(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    def asking(_request_id: str) -> list[str]:
        raise JournalUnavailable("full")

    job = press.submit("mgmt")
    monkeypatch.setattr(press.journal, "asking", asking)
    assert press.tell(job) == 1


@pytest.fixture
def running(press: Press, monkeypatch: pytest.MonkeyPatch) -> Iterator[Press]:
    monkeypatch.setattr(reporting, "PUBLISH_S", 0.01)
    monkeypatch.setattr(reporting, "ALIVE_S", 0.0)
    press.reporting.start()
    yield press
    press.reporting.stop()


def published(press: Press) -> bool:
    return press.publisher.ticks.acquire(timeout=WAIT_S)


def test_while_there_are_copies_it_goes_on_and_then_it_sleeps(running: Press) -> None:
    assert not running.publisher.ticks.acquire(timeout=0.05)
    running.submit(command=ConnectPhysicalDisk(volume="~a.b.c"))
    assert not running.publisher.ticks.acquire(timeout=0.05)
    first = running.submit()
    for _ in range(3):
        assert published(running)
    second = running.submit()
    while len(running.publisher.bodies(topology.EVENTS)) < 10:
        assert published(running)
    subjects = {event["subject"] for event in running.publisher.bodies(topology.EVENTS)}
    assert subjects == {str(job.request.id) for job in (first, second)}


def test_without_a_connection_nothing_is_said_and_with_the_next_one_it_goes_on(running: Press) -> None:
    running.connected = False
    running.submit()
    assert not running.publisher.ticks.acquire(timeout=0.1)
    running.connected = True
    assert published(running)


def test_it_ends_while_copies_run(press: Press) -> None:
    press.reporting.start()
    press.submit()
    assert published(press)
    press.reporting.stop()
    assert not press.reporting._thread.is_alive()
