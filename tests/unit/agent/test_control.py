# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Control commands: which thread answers, what is answered, and that something always is."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from fake_host import FakeHost
from storpool_agent import logs
from storpool_agent.control import Control
from storpool_agent.deadline import Deadline
from storpool_agent.errors import LibvirtUnavailable
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.overview import Overview
from storpool_agent.lanes import Lane
from storpool_commands.catalogue import ControlCommand
from storpool_commands.control import Drain, GetDriftReport, ListAttachments, ListCommands, Ping, SetLogLevel
from storpool_commands.envelope import ControlRequest, Failure, Success
from storpool_commands.errors import ErrorCode

WAIT_S = 5.0
STATE_DIR = Path("/var/lib/storpool-agent")


class FakeGate:
    """The consumer's side of a drain; the broker's answer is the test's to give."""

    def __init__(self) -> None:
        self.open = True
        self.waiting: list[Callable[[], None]] = []

    def pause(self, paused: Callable[[], None]) -> None:
        self.open = False
        self.waiting.append(paused)

    def resume(self) -> None:
        self.open = True


class Desk:
    """The control commands over fakes."""

    def __init__(self, journal: Journal) -> None:
        self.fakes = FakeHost(journal)
        self.lane = Lane("control", 1)
        outbox: Any = None
        self.jobs = Jobs(self.fakes.host, journal, outbox, self.lane, self.lane)
        overview = Overview(journal._database)
        self.control = Control(self.fakes.host, journal, overview, self.jobs, self.lane, STATE_DIR)
        self.gate = FakeGate()
        self.control.gate = self.gate
        self.answered = threading.Condition()
        self.replies: list[tuple[Success | Failure, str]] = []
        """With the name of the thread that said it."""
        self.lane.start()

    def ask(self, command: ControlCommand) -> None:
        self.control.answer(ControlRequest(id=uuid4(), protocol=1, body=command), self._say)

    def reply(self, command: ControlCommand) -> Any:
        """The result or the failure."""
        before = len(self.replies)
        self.ask(command)
        with self.answered:
            assert self.answered.wait_for(lambda: len(self.replies) > before, WAIT_S)
        reply, _ = self.replies[before]
        return reply.result if isinstance(reply, Success) else reply

    def _say(self, reply: Success | Failure) -> None:
        with self.answered:
            self.replies.append((reply, threading.current_thread().name))
            self.answered.notify_all()

    def close(self) -> None:
        self.lane.drain()
        assert self.lane.join(Deadline.after(WAIT_S))


@pytest.fixture
def desk(journal: Journal) -> Iterator[Desk]:
    desk = Desk(journal)
    yield desk
    desk.close()


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    before = logs.present_level()
    yield
    logs.set_level(before)


@pytest.mark.parametrize("command", [Ping(), ListCommands(), SetLogLevel(level="info"), Drain(on=False)])
def test_what_asks_nobody_is_answered_at_once(desk: Desk, command: ControlCommand) -> None:
    desk.ask(command)
    ((reply, thread),) = desk.replies
    assert (reply.status, thread) == ("success", "MainThread")


@pytest.mark.parametrize("command", [ListAttachments(), GetDriftReport()])
def test_what_asks_others_keeps_nobody_waiting(desk: Desk, command: ControlCommand) -> None:
    blocked = threading.Event()

    def block() -> None:
        blocked.wait(WAIT_S)

    desk.lane.put(block)
    desk.ask(command)
    desk.ask(Ping())
    assert [thread for _, thread in desk.replies] == ["MainThread"]
    blocked.set()
    with desk.answered:
        assert desk.answered.wait_for(lambda: len(desk.replies) == 2, WAIT_S)
    assert desk.replies[1][1] == "control_0"


def test_attachments_are_those_of_this_host(desk: Desk) -> None:
    storpool = desk.fakes.storpool
    ours, snapshot, others = storpool.add(), storpool.add(snapshot=True), storpool.add()
    storpool.attach_elsewhere(ours, client=1)
    storpool.attach_elsewhere(snapshot, client=1, mode="ro")
    storpool.attach_elsewhere(others, client=2)
    listed = desk.reply(ListAttachments()).attachments
    assert [(one.global_id, one.snapshot, one.mode, one.vms) for one in listed] == [
        (ours.global_id, False, "rw", []),
        (snapshot.global_id, True, "ro", []),
    ]
    assert listed[0].path == desk.fakes.devices.link(ours.global_id)


def test_drift_that_lasts_is_told(desk: Desk) -> None:
    volume = desk.fakes.storpool.add()
    desk.fakes.storpool.attach_elsewhere(volume, client=1)
    (told,) = desk.reply(GetDriftReport()).drifts
    assert (told.kind, told.global_id) == ("not-used", volume.global_id)


def test_drift_that_is_gone_at_the_second_look_is_not_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = desk.fakes.storpool.add()
    desk.fakes.storpool.attach_elsewhere(volume, client=1)
    attachments = desk.fakes.storpool.attachments

    def detached_meanwhile(deadline: Deadline) -> Any:
        seen = attachments(deadline)
        desk.fakes.storpool.attached.clear()
        return seen

    monkeypatch.setattr(desk.fakes.storpool, "attachments", detached_meanwhile)
    assert desk.reply(GetDriftReport()).drifts == []


def test_a_look_that_fails_is_a_failure(desk: Desk) -> None:
    desk.fakes.domains.fail("below", LibvirtUnavailable("down"))
    failure = desk.reply(ListAttachments())
    assert (failure.code, failure.retry, failure.side_effects) == (ErrorCode.LIBVIRT_UNAVAILABLE, "retryable", "none")


def test_a_defect_is_answered_and_logged(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(desk.fakes.domains, "below", broken)
    with capture_logs() as said:
        failure = desk.reply(GetDriftReport())
    assert (failure.code, failure.host) == (ErrorCode.INTERNAL, "kvm1")
    assert [line["event"] for line in said] == ["crashed"]
    assert desk.reply(Ping()).host == "kvm1"


def test_a_drain_is_answered_when_nothing_more_comes(desk: Desk) -> None:
    desk.ask(Drain(on=True))
    assert (desk.gate.open, desk.replies) == (False, [])
    desk.gate.waiting[0]()
    ((reply, _),) = desk.replies
    assert isinstance(reply, Success)
    assert reply.result.model_dump() == {"command": "drain", "draining": True, "unfinished": 0}
    assert not desk.reply(Drain(on=False)).draining
    assert desk.gate.open


def test_the_level_of_the_log_is_set_and_told(desk: Desk) -> None:
    logs.set_level("info")
    first, second = desk.reply(SetLogLevel(level="debug")), desk.reply(SetLogLevel(level="error"))
    assert (first.before, first.after) == ("info", "debug")
    assert (second.before, second.after) == ("debug", "error")
