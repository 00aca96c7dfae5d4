# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copies on their lane: nobody waits for them, and they end when they are told to."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from copy_requests import SCENES
from copy_scene import CONTENTS, TARGET, Killed, Life, Scene
from fake_outbox import FakeOutbox
from storpool_agent.backlog import Backlog
from storpool_agent.deadline import Deadline
from storpool_agent.errors import JournalUnavailable
from storpool_agent.job import MAX_ATTEMPTS
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.lanes import Lanes
from storpool_agent.tally import tally
from storpool_commands.catalogue import Command
from storpool_commands.copies import BackupSnapshot
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk
from storpool_commands.envelope import Request
from storpool_commands.errors import ErrorCode
from storpool_commands.images import StoredImage
from storpool_commands.migration import MigrateVm
from storpool_commands.snapshots import DeleteSnapshot

WAIT_S = 5.0
BACKUP = "backupSnapshot"


class Copier:
    """`convert` of the fakes, which waits until it is let go; an interrupt ends it."""

    def __init__(self, scene: Scene) -> None:
        self._real = scene.fakes.images.convert
        scene.fakes.images.convert = self._wait_and_convert  # type: ignore[method-assign]
        self.begun = threading.Semaphore(0)
        self._going_on: dict[str, threading.Event] = {}

    def _wait_and_convert(self, source: Any, target: Any, task: Any, **how: Any) -> None:
        going_on = self._going_on.setdefault(target.name, threading.Event())
        task.interrupt.tell(going_on.set)
        self.begun.release()
        going_on.wait(task.interrupt.within(WAIT_S))
        task.interrupt.check()
        self._real(source, target, task, **how)

    def wait_begun(self) -> None:
        assert self.begun.acquire(timeout=WAIT_S)

    def go_on(self, path: str = TARGET.path) -> None:
        next(event for name, event in self._going_on.items() if name.startswith(path)).set()


class Office:
    """Jobs over a scene, with one worker for what is fast, and two for copies."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.copier = Copier(scene)
        self.outbox = FakeOutbox()
        outbox: Any = self.outbox
        self.lanes = Lanes.wide(1, 2, 1)
        self.jobs = Jobs(scene.fakes.host, scene.journal, outbox, self.lanes)
        for lane in self.lanes:
            lane.start()

    def submit(self, command: Command, **envelope: Any) -> str:
        request = Request(id=uuid4(), protocol=1, body=command, **envelope)
        self.scene.journal.accept([Arrival(str(request.id), command.command, b"{}", None, "mgmt")])
        self.jobs.submit(request)
        return str(request.id)

    def submit_scene(self, attempts: int = 0, stops: int = 0, **envelope: Any) -> str:
        """The scene's own request."""
        self.scene.request = self.scene.request.model_copy(update=envelope)
        self.jobs.submit(self.scene.request, attempts, stops, recovered=attempts > 0)
        return str(self.scene.request.id)

    def reply(self, request_id: str) -> dict[str, Any]:
        """Of one request, whenever it comes."""
        for count in range(1, 10):
            for reply in self.outbox.replies(count):
                if reply["id"] == request_id:
                    return reply
        raise AssertionError

    def settled(self) -> None:
        """Whatever was finished has given its objects back."""
        assert self.jobs.wait_stored(Deadline.after(WAIT_S))

    def keep_bulk_busy(self) -> threading.Event:
        free = threading.Event()

        def wait() -> None:
            free.wait(WAIT_S)

        for _ in range(2):
            self.lanes.bulk.put(wait)
        return free

    def close(self) -> None:
        self.jobs.end_copies()
        self.jobs.abandon()
        for lane in self.lanes:
            lane.drain()
            assert lane.join(Deadline.after(WAIT_S))


@pytest.fixture
def office(journal: Journal, tmp_path: Path) -> Iterator[Office]:
    office = Office(Scene(journal, tmp_path / "secondary"))
    yield office
    office.close()


def prepared(office: Office, name: str = BACKUP) -> str:
    """The global id of what is copied."""
    office.scene.prepare(SCENES[name])
    office.scene.request = office.scene.request.model_copy(update={"progress": False})
    return next(iter(office.scene.fakes.storpool.volumes), "")


def with_asker(office: Office) -> None:
    """The scene's request wants its reply."""
    request = office.scene.request
    office.scene.journal.accept([Arrival(str(request.id), request.body.command, b"", None, "mgmt")])


def begin(office: Office, name: str = BACKUP, **envelope: Any) -> tuple[str, str]:
    """A copy that is under way; what is copied, and the request."""
    global_id = prepared(office, name)
    with_asker(office)
    request_id = office.submit_scene(**envelope)
    office.copier.wait_begun()
    return global_id, request_id


def test_a_copy_keeps_nobody_waiting_who_wants_what_it_copies(office: Office) -> None:
    snapshot, request_id = begin(office)
    connected = office.reply(office.submit(ConnectPhysicalDisk(snapshot=f"~{snapshot}", mode="ro")))
    assert connected["status"] == "success"
    office.copier.go_on()
    assert office.reply(request_id)["status"] == "success"
    assert list(office.scene.fakes.storpool.attached) == [(snapshot, 1)]


def test_what_is_copied_is_neither_detached_nor_deleted(office: Office) -> None:
    snapshot, request_id = begin(office)
    for command in (DisconnectPhysicalDisk(snapshot=f"~{snapshot}"), DeleteSnapshot(snapshot=f"~{snapshot}")):
        refused = office.reply(office.submit(command))
        assert (refused["code"], refused["facts"]["holders"]) == (ErrorCode.VOLUME_BUSY, [f"job {request_id}"])
    office.copier.go_on()
    assert office.reply(request_id)["status"] == "success"
    assert office.scene.fakes.storpool.attached == {}


def test_a_machine_that_uses_it_meanwhile_keeps_it(office: Office) -> None:
    snapshot, request_id = begin(office)
    office.scene.machine(office.scene.fakes.devices.link(snapshot))
    office.copier.go_on()
    assert office.reply(request_id)["status"] == "success"
    assert list(office.scene.fakes.storpool.attached) == [(snapshot, 1)]
    assert office.scene.journal.temporaries.of(request_id) == []


@pytest.mark.parametrize("first", [0, 1], ids=["the one that attached it ends first", "the other one ends first"])
def test_of_two_copies_of_one_snapshot_the_last_detaches_it(office: Office, first: int) -> None:
    snapshot, request_id = begin(office)
    target = StoredImage(store=TARGET.store, path="second.img")
    second = office.submit(BackupSnapshot(snapshot=f"~{snapshot}", target=target))
    office.copier.wait_begun()
    ends = [(request_id, TARGET.path), (second, target.path)]
    for request, path in (ends[first], ends[1 - first]):
        assert list(office.scene.fakes.storpool.attached) == [(snapshot, 1)]
        office.copier.go_on(path)
        assert office.reply(request)["status"] == "success"
    office.settled()
    assert office.scene.fakes.storpool.attached == {}
    assert office.scene.journal.temporaries.left() == []


def test_a_volume_that_is_moved_to_a_file_is_nobody_elses_meanwhile(office: Office) -> None:
    volume, request_id = begin(office, "migrateVolume, out, delete")
    connect = office.submit(ConnectPhysicalDisk(volume=f"~{volume}"))
    office.copier.go_on()
    assert office.reply(request_id)["status"] == "success"
    assert office.reply(connect)["code"] == ErrorCode.VOLUME_NOT_FOUND
    assert [reply["id"] for reply in office.outbox.replies(2)] == [request_id, connect]


def test_a_copy_that_waits_for_its_lane_is_cancelled_at_once(office: Office) -> None:
    prepared(office)
    with_asker(office)
    free = office.keep_bulk_busy()
    request_id = office.submit_scene()
    assert office.jobs.cancel(request_id) == "cancelled"
    reply = office.reply(request_id)
    assert (reply["code"], reply["sideEffects"], reply["steps"]) == (ErrorCode.CANCELLED, "none", [])
    free.set()
    assert office.scene.state() == office.scene.before


def test_a_copy_is_cancelled_in_its_middle_and_leaves_nothing(office: Office) -> None:
    _, request_id = begin(office)
    assert office.jobs.cancel(request_id) == "stopping"
    reply = office.reply(request_id)
    assert (reply["code"], reply["sideEffects"]) == (ErrorCode.CANCELLED, "none")
    assert office.scene.state() == office.scene.before


def test_a_copy_ends_with_its_deadline_and_leaves_nothing(office: Office) -> None:
    _, request_id = begin(office, deadline=datetime.now(UTC) + timedelta(seconds=0.5))
    reply = office.reply(request_id)
    assert (reply["code"], reply["sideEffects"]) == (ErrorCode.DEADLINE_PASSED, "none")
    assert office.scene.state() == office.scene.before


def killed(office: Office, name: str = BACKUP) -> None:
    """An earlier run of the agent died while it copied."""
    convert = office.scene.fakes.images.convert

    def die(*_: Any, **__: Any) -> None:
        office.scene.life.over = True
        raise Killed

    office.scene.fakes.images.convert = die  # type: ignore[method-assign]
    prepared(office, name)
    with_asker(office)
    office.scene.journal.start(str(office.scene.request.id))
    with pytest.raises(Killed):
        office.scene.run(Life())
    office.scene.die()
    office.scene.fakes.images.convert = convert  # type: ignore[method-assign]
    assert office.scene.state() != office.scene.before


def left_when_replied(office: Office) -> list[Any]:
    """Filled with the state that there is when the reply is put out."""
    seen: list[Any] = []
    send = office.outbox.send

    def sent(messages: Any) -> None:
        seen.append(office.scene.state())
        send(messages)

    office.outbox.send = sent  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("name", [BACKUP, "downloadVolume", "createTemplateFromSnapshot, backup"])
def test_what_a_crash_left_is_gone_before_the_reply_to_a_cancel(office: Office, name: str) -> None:
    killed(office, name)
    seen = left_when_replied(office)
    free = office.keep_bulk_busy()
    request_id = office.submit_scene(attempts=1)
    assert office.jobs.cancel(request_id) == "stopping"
    free.set()
    assert office.reply(request_id)["code"] == ErrorCode.CANCELLED
    assert seen == [office.scene.before]


def test_what_a_crash_left_is_gone_before_a_crash_loop_is_told(office: Office) -> None:
    killed(office)
    seen = left_when_replied(office)
    request_id = office.submit_scene(attempts=MAX_ATTEMPTS)
    assert office.reply(request_id)["code"] == ErrorCode.CRASH_LOOP
    assert seen == [office.scene.before]


def test_a_deadline_that_has_passed_since_a_crash_leaves_nothing(office: Office) -> None:
    killed(office)
    request_id = office.submit_scene(attempts=1, deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert office.reply(request_id)["code"] == ErrorCode.DEADLINE_PASSED
    assert office.scene.state() == office.scene.before


def test_a_stop_of_the_agent_leaves_no_reply_and_counts_for_nothing(office: Office) -> None:
    begin(office)
    office.jobs.end_copies()
    office.lanes.bulk.drain()
    assert office.lanes.bulk.join(Deadline.after(WAIT_S))
    assert office.outbox.sent == []
    (stored,) = office.scene.journal.unfinished()
    assert (stored.attempts, stored.stops) == (1, 1)
    assert office.jobs.copies() == []


def test_a_copy_that_was_often_stopped_with_the_agent_is_no_crash_loop(office: Office) -> None:
    prepared(office)
    with_asker(office)
    request_id = office.submit_scene(attempts=MAX_ATTEMPTS + 5, stops=MAX_ATTEMPTS + 4)
    office.copier.wait_begun()
    office.copier.go_on()
    assert office.reply(request_id)["status"] == "success"
    assert (office.scene.at()).read_bytes() == CONTENTS


def test_refused_copies_leave_no_open_files(office: Office) -> None:
    prepared(office)
    with_asker(office)
    passed = datetime.now(UTC) - timedelta(seconds=1)
    command = office.scene.request.body
    office.reply(office.submit(command, deadline=passed))
    before = open_files()
    for _ in range(5):
        office.reply(office.submit(command, deadline=passed))
    office.settled()
    assert open_files() == before


def open_files() -> int:
    """What a poll waits for an interrupt with; others come and go with the garbage of other tests."""
    return sum(
        str(each.readlink()) == "anon_inode:[eventfd]" for each in Path("/proc/self/fd").iterdir() if each.is_symlink()
    )


def test_a_worker_outlives_leftovers_that_it_cannot_take_away(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(office)

    def of(_command: str) -> Any:
        raise JournalUnavailable("it is full")

    with monkeypatch.context() as patch:
        patch.setattr(office.scene.journal.temporaries, "of", of)
        request_id = office.submit_scene(attempts=MAX_ATTEMPTS)
        reply = office.reply(request_id)
    assert (reply["code"], reply["sideEffects"]) == (ErrorCode.CRASH_LOOP, "partial")
    office.scene.sweep()
    assert office.scene.state() == office.scene.before


def test_a_copy_too_many_is_refused_at_once_and_what_was_accepted_is_not(office: Office) -> None:
    prepared(office)
    office.jobs.max_queued_copies = 2
    free = office.keep_bulk_busy()
    commands = [BackupSnapshot(snapshot=f"s{n}", target=TARGET) for n in range(3)]
    office.submit(commands[0])
    recovered = Request(id=uuid4(), protocol=1, body=commands[1])
    office.scene.journal.accept([Arrival(str(recovered.id), commands[1].command, b"{}", None, None)])
    office.jobs.submit(recovered, 1, recovered=True)
    assert office.jobs.unfinished()
    refused = office.reply(office.submit(commands[2]))
    assert (refused["code"], refused["retry"], refused["sideEffects"]) == (
        ErrorCode.HOST_OVERLOADED,
        "retryable",
        "none",
    )
    assert refused["facts"]["queued"] == 2
    assert len(office.jobs.unfinished()) == 2
    free.set()


def test_a_machine_that_moves_waits_for_no_copy(office: Office) -> None:
    prepared(office)
    office.jobs.max_queued_copies = 1
    free = office.keep_bulk_busy()
    office.submit(BackupSnapshot(snapshot="s", target=TARGET))
    later = datetime.now(UTC) + timedelta(hours=1)
    move = MigrateVm(migration=uuid4(), vm=str(uuid4()), destination="kvm2", expires_at=later)
    assert office.reply(office.submit(move))["code"] == ErrorCode.VM_NOT_FOUND
    free.set()


def test_what_waits_and_for_how_long_is_counted_by_lane(office: Office) -> None:
    prepared(office)
    free = office.keep_bulk_busy()
    for n in range(2):
        office.submit(BackupSnapshot(snapshot=f"s{n}", target=TARGET))
    jobs = office.jobs.unfinished()
    counted = tally(jobs, jobs[0].queued_at + 30)
    assert (counted.bulk.running, counted.bulk.queued, counted.bulk.oldest_s) == (0, 2, 30)
    assert (counted.fast.running, counted.fast.queued, counted.fast.oldest_s) == (0, 0, 0)
    free.set()


def test_copies_that_wait_keep_no_command_in_the_queue(office: Office) -> None:
    prepared(office)
    free = office.keep_bulk_busy()
    office.submit(BackupSnapshot(snapshot="s", target=TARGET))
    backlog = Backlog(office.jobs, 1)
    assert not backlog.is_over(again=False)
    blocked = threading.Event()

    def block() -> None:
        blocked.wait(WAIT_S)

    office.lanes.fast.put(block)
    office.submit(ConnectPhysicalDisk(volume="~a.b.c"))
    assert (backlog.is_over(again=False), backlog.is_over(again=True)) == (True, True)
    backlog.max_queued = 10
    assert not backlog.is_over(again=True)
    blocked.set()
    free.set()
