# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copies that are ended before they are done: by SIGTERM, a cancel, a deadline, and agents that die again and again."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from integration.agent import copy_jobs
from integration.agent.copies import SLOW_BYTES_S, WAIT_S, Depot, journal, running_depot
from integration.agent.copy_jobs import Make
from integration.agent.refusals import refused
from real_lab import wait_for
from storpool_commands.errors import ErrorCode

pytestmark = pytest.mark.long

DEADLINE_S = 6.0
"""Enough to be in the middle of a slow copy, which takes twice as long."""
STOPS = 4
PARTIAL = "partial"
"""How far an earlier life of the agent had come is not known."""


@pytest.fixture(scope="module")
def stopped(services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Depot]:
    with running_depot(tmp_path_factory.mktemp("store"), start=False) as depot:
        yield depot


@pytest.fixture
def depot(stopped: Depot) -> Iterator[Depot]:
    with stopped.running_agent():
        yield stopped


JOBS = [
    pytest.param(make, id=make.__name__)
    for make in (
        copy_jobs.backup,
        copy_jobs.copy_volume,
        copy_jobs.download_volume,
        copy_jobs.download_template,
        copy_jobs.template_from_snapshot,
        copy_jobs.move_to_file,
    )
]


@pytest.mark.parametrize("make", JOBS)
def test_a_cancelled_copy_is_over_and_taken_back_when_its_sender_hears_it(depot: Depot, make: Make) -> None:
    job = make(depot, bandwidth_bytes_s=SLOW_BYTES_S)
    request_id = depot.send(job.command)
    depot.wait_copying(request_id)
    assert depot.cancel(request_id) == "stopping"
    refused(depot.reply(request_id), ErrorCode.CANCELLED)
    job.assert_not_done()


def test_a_copy_that_waits_for_two_others_is_cancelled_at_once(depot: Depot) -> None:
    jobs = [make(depot, bandwidth_bytes_s=SLOW_BYTES_S) for make in (copy_jobs.backup, copy_jobs.move_to_file)]
    waiting = copy_jobs.download_volume(depot)
    running = [depot.send(job.command) for job in jobs]
    for request_id in running:
        depot.wait_copying(request_id)
    queued = depot.send(waiting.command)
    wait_for(lambda: depot.is_known(queued), WAIT_S)
    progress = depot.status(queued).progress
    assert progress is not None
    assert progress.phase == "queued"
    assert depot.cancel(queued) == "cancelled"
    refused(depot.raw.reply(queued), ErrorCode.CANCELLED)
    assert [depot.raw.replies(one) for one in running] == [[], []]
    for request_id in running:
        depot.cancel(request_id)
    for request_id in running:
        refused(depot.raw.reply(request_id), ErrorCode.CANCELLED)
    waiting.assert_not_done()
    depot.assert_nothing_left()


def test_a_copy_is_cancelled_between_a_crash_and_its_next_run(depot: Depot) -> None:
    """What the crash has left is taken away although the job is not run again."""
    first = copy_jobs.move_to_file(depot, bandwidth_bytes_s=SLOW_BYTES_S)
    second = copy_jobs.download_volume(depot, bandwidth_bytes_s=SLOW_BYTES_S)
    first.look()
    running = [depot.send(job.command) for job in (first, second)]
    for request_id in running:
        depot.wait_copying(request_id)
    depot.agent.kill()
    with one_at_a_time(depot):
        depot.wait_copying(running[0])
        assert depot.cancel(running[1]) == "stopping"
        assert depot.raw.replies(running[1]) == []
        depot.cancel(running[0])
        refused(depot.raw.reply(running[0]), ErrorCode.CANCELLED)
        refused(
            depot.reply(running[1]), ErrorCode.CANCELLED, says=("before it was started again",), side_effects=PARTIAL
        )
        first.assert_not_done()
        second.assert_not_done()


@contextmanager
def one_at_a_time(depot: Depot) -> Generator[None]:
    """The agent is started with one thread for copies; what was accepted first then has it first."""
    depot.agent.configure({**depot.stack.settings, "lanes": {"bulk": 1}})
    depot.agent.start()
    try:
        yield
    finally:
        depot.agent.configure(depot.stack.settings)


@pytest.mark.parametrize("make", [copy_jobs.backup, copy_jobs.download_volume])
def test_a_copy_whose_deadline_passes_is_taken_back(depot: Depot, make: Make) -> None:
    job = make(depot, bandwidth_bytes_s=SLOW_BYTES_S)
    deadline = datetime.now(UTC) + timedelta(seconds=DEADLINE_S)
    reply = depot.reply(depot.send(job.command, deadline=deadline.isoformat()))
    refused(reply, ErrorCode.DEADLINE_PASSED)
    assert {step["step"]: step["status"] for step in reply["steps"]}["copy"] == "failed"
    job.assert_not_done()


def test_a_copy_survives_any_number_of_stops(depot: Depot) -> None:
    """A stop says nothing against the request: only deaths are counted."""
    job = copy_jobs.backup(depot, bandwidth_bytes_s=SLOW_BYTES_S)
    request_id = depot.send(job.command)
    for _ in range(STOPS):
        depot.wait_copying(request_id)
        assert depot.agent.stop() == 0
        assert depot.children() == []
        assert depot.raw.replies(request_id) == []
        depot.agent.start()
    result = job.result_of(depot.reply(request_id))
    job.assert_done_once(result)
    assert result.copies == STOPS + 1
    counted = journal(depot.agent, "SELECT attempts, stops FROM command WHERE id = ?", request_id)
    assert counted == [(STOPS + 1, STOPS)]
    assert depot.agent.events("copies abandoned") == []


def test_a_stop_begins_nothing_that_waits(depot: Depot) -> None:
    jobs = [copy_jobs.backup(depot, bandwidth_bytes_s=SLOW_BYTES_S) for _ in range(2)]
    waiting = copy_jobs.move_to_file(depot)
    running = [depot.send(job.command) for job in jobs]
    for request_id in running:
        depot.wait_copying(request_id)
    queued = depot.send(waiting.command)
    wait_for(lambda: depot.is_known(queued), WAIT_S)
    assert depot.agent.stop() == 0
    assert journal(depot.agent, "SELECT state, attempts FROM command ORDER BY seq DESC LIMIT 1") == [("accepted", 0)]
    depot.agent.start()
    for request_id in running:
        depot.wait_copying(request_id)
        depot.cancel(request_id)
        refused(depot.raw.reply(request_id), ErrorCode.CANCELLED)
    waiting.assert_done_once(waiting.result_of(depot.reply(queued)))


@pytest.mark.parametrize("make", [copy_jobs.backup, copy_jobs.download_volume, copy_jobs.template_from_volume])
def test_a_copy_that_kills_the_agent_each_time_is_given_up_and_taken_back(depot: Depot, make: Make) -> None:
    job = make(depot)
    point = f"{job.command.command}/verify:begin"
    depot.agent.restart_to_crash_at(point)
    request_id = depot.send(job.command)
    depot.agent.wait_crashed()
    for _ in range(2):
        depot.agent.start(crash_at=point, wait=False)
        depot.agent.wait_crashed()
    depot.agent.start()
    refused(depot.reply(request_id), ErrorCode.CRASH_LOOP, facts={"attempts": 3}, side_effects=PARTIAL)
    job.assert_not_done()
