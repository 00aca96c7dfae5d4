# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Control commands: which thread answers, what is answered, and that something always is."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from fake_host import FakeHost
from fake_outbox import FakeOutbox
from storpool_agent import logs
from storpool_agent.bus.publisher import Message
from storpool_agent.control import Control
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Disk
from storpool_agent.drift_watch import DriftWatch
from storpool_agent.errors import LibvirtUnavailable
from storpool_agent.handlers.temporaries import pair
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.journal.overview import Overview
from storpool_agent.journal.temporaries import Temporary
from storpool_agent.journal.unplugs import PendingUnplug
from storpool_agent.lanes import Lane, Lanes
from storpool_commands.catalogue import ControlCommand
from storpool_commands.control import (
    CancelCommand,
    Drain,
    Drained,
    GetDriftReport,
    ListAttachments,
    ListCommands,
    Ping,
    QueryCommand,
    SetLogLevel,
)
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.envelope import ControlRequest, Failure, Request, Success
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


class Unheard:
    """Where events go that no test here looks at."""

    def publish(self, *messages: Message) -> None:
        pass


class Desk:
    """The control commands over fakes."""

    def __init__(self, journal: Journal) -> None:
        self.fakes = FakeHost(journal)
        self.lane = Lane("control", 1)
        outbox: Any = FakeOutbox()
        self.jobs = Jobs(self.fakes.host, journal, outbox, Lanes(*[self.lane] * 4))
        drift = DriftWatch(self.fakes.host, journal, Unheard(), 0)
        overview = Overview(journal._database)
        self.control = Control(self.fakes.host, journal, overview, self.jobs, self.lane, drift, STATE_DIR)
        self.gate = FakeGate()
        self.control.gate = self.gate
        self.answered = threading.Condition()
        self.replies: list[tuple[Success | Failure, str]] = []
        """With the name of the thread that said it."""
        self.lane.start()

    def ask(self, command: ControlCommand) -> None:
        self.control.answer(ControlRequest(id=uuid4(), protocol=1, body=command), self._say, "cloud")

    def reply(self, command: ControlCommand) -> Any:
        """The result or the failure."""
        before = len(self.replies)
        self.ask(command)
        with self.answered:
            assert self.answered.wait_for(lambda: len(self.replies) > before, WAIT_S)
        reply, _ = self.replies[before]
        return reply.result if isinstance(reply, Success) else reply

    def next_reply(self) -> Any:
        """The result or the failure that is there, or comes."""
        with self.answered:
            assert self.answered.wait_for(lambda: bool(self.replies), WAIT_S)
            reply, _ = self.replies.pop(0)
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


def test_what_changes_something_is_ended_in_the_log_and_questions_are_not(desk: Desk) -> None:
    unknown = uuid4()
    with capture_logs([merge_contextvars]) as lines:
        for command in (Ping(), QueryCommand(id=unknown), SetLogLevel(level="info"), Drain(on=False)):
            desk.ask(command)
        desk.ask(CancelCommand(id=unknown))
    ends = [line for line in lines if line.get("audit")]
    assert [(line["event"], line["command"], line["publisher"], line.get("code")) for line in ends] == [
        ("done", "setLogLevel", "cloud", None),
        ("done", "drain", "cloud", None),
        ("failed", "cancelCommand", "cloud", ErrorCode.UNKNOWN_REQUEST),
    ]


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
    assert desk.next_reply() == Drained(draining=True, quiet=True, unfinished=0, attachments=[])
    assert desk.reply(Drain(on=False)) == Drained(draining=False, quiet=False, unfinished=0)
    assert desk.gate.open


def drained(desk: Desk) -> Drained:
    desk.ask(Drain(on=True))
    desk.gate.waiting.pop()()
    return desk.next_reply()  # type: ignore[no-any-return]


def test_a_drain_says_what_a_maintenance_would_disturb(desk: Desk, journal: Journal) -> None:
    used, left = desk.fakes.storpool.add(), desk.fakes.storpool.add()
    for volume in (used, left):
        desk.fakes.storpool.attach_elsewhere(volume, client=1)
    path = desk.fakes.devices.link(used.global_id)
    disk = Disk(path, "s", "ua-1", "virtio", "rw", "none", None, "unmap", live=True, config=True)
    vm = desk.fakes.machine(live={"vdb": disk}, config={"vdb": disk}).uuid
    journal.unplugs.expect(PendingUnplug("a.b.c", vm, "request-1"))
    journal.temporaries.add(Temporary("request-2", "mirror", pair(vm, "/new")))
    told = drained(desk)
    assert not told.quiet
    found = [(one.global_id, one.vms, one.vm_names) for one in told.attachments or []]
    assert found == [(used.global_id, [vm], ["vm-0"])]
    assert [(one.global_id, one.vm, one.request) for one in told.pending_unplugs] == [("a.b.c", vm, "request-1")]
    assert [(one.vm, one.path, one.request) for one in told.mirrors] == [(vm, "/new", "request-2")]


def test_a_drain_names_what_runs_and_what_waits(desk: Desk, journal: Journal) -> None:
    running, free = threading.Event(), threading.Event()

    def hold() -> None:
        running.set()
        free.wait(WAIT_S)

    desk.lane.resize(2)
    desk.jobs.alongside(frozenset({"volume:a.b.c"}), hold)
    assert running.wait(WAIT_S)
    request = Request(id=uuid4(), protocol=1, body=ConnectPhysicalDisk(volume="~a.b.c"))
    journal.accept([Arrival(str(request.id), "connectPhysicalDisk", b"{}", None, None)])
    desk.jobs.submit(request)
    told = drained(desk)
    assert [(one.id, one.body_command, one.state) for one in told.commands] == [
        (request.id, "connectPhysicalDisk", "queued")
    ]
    assert (told.unfinished, told.quiet) == (1, False)
    desk.jobs.cancel(str(request.id))
    free.set()


def test_a_drain_is_answered_also_when_storpool_and_libvirt_do_not(desk: Desk) -> None:
    desk.fakes.domains.fail("below", LibvirtUnavailable("libvirt is down"))
    told = drained(desk)
    assert (told.draining, told.quiet, told.attachments, told.not_known) == (True, False, None, "libvirt is down")


def test_the_level_of_the_log_is_set_and_told(desk: Desk) -> None:
    logs.set_level("info")
    first, second = desk.reply(SetLogLevel(level="debug")), desk.reply(SetLogLevel(level="error"))
    assert (first.before, first.after) == ("info", "debug")
    assert (second.before, second.after) == ("debug", "error")
