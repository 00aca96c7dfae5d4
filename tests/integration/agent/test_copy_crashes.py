# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at the steps of the copy jobs: the next agent finishes, and nothing is there twice or left over."""

import os
from collections.abc import Iterator, Sequence

import pytest

from integration.agent import copy_jobs
from integration.agent.copies import SLOW_BYTES_S, Depot, running_depot
from integration.agent.copy_jobs import Make

pytestmark = pytest.mark.long

ONCE, AGAIN = 1, 2
Crash = tuple[Make, str, int]
"""A job, the point of its command at which the agent dies, and how often the copy is then begun in all."""


@pytest.fixture(scope="module")
def stopped(services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Depot]:
    with running_depot(tmp_path_factory.mktemp("store"), start=False) as depot:
        yield depot


@pytest.fixture
def depot(stopped: Depot) -> Iterator[Depot]:
    yield stopped
    stopped.agent.stop()


TOURS: dict[str, Sequence[Crash]] = {
    "before a thing is made, and when only its row is there": (
        (copy_jobs.backup, "accepted", ONCE),
        (copy_jobs.copy_volume, "making-making-snapshot", AGAIN),
        (copy_jobs.download_volume, "making-making-volume", AGAIN),
        (copy_jobs.backup, "making-attachment", AGAIN),
    ),
    "when it is made and its row does not say so": (
        (copy_jobs.copy_volume, "making-snapshot", AGAIN),
        (copy_jobs.download_template, "making-volume", AGAIN),
        (copy_jobs.template_from_snapshot, "create:done", AGAIN),
        (copy_jobs.move_to_file, "begin:done", AGAIN),
    ),
    "between copy and publication": (
        (copy_jobs.template_from_snapshot, "snapshot:done", AGAIN),
        (copy_jobs.backup, "copy:done", AGAIN),
        (copy_jobs.move_to_file, "noted", AGAIN),
        (copy_jobs.download_template, "detach:done", AGAIN),
    ),
    "when only the end is missing": (
        (copy_jobs.download_volume, "noted", ONCE),
        (copy_jobs.copy_volume, "publish:done", ONCE),
        (copy_jobs.download_template, "snapshot:done", ONCE),
        (copy_jobs.template_from_volume, "making-text", ONCE),
    ),
    "before the reply is out": (
        (copy_jobs.template_from_backup, "properties:done", ONCE),
        (copy_jobs.move_to_file, "delete:done", ONCE),
        (copy_jobs.move_from_file, "release:done", ONCE),
        (copy_jobs.backup, "finished", ONCE),
    ),
}
"""Not here, since nothing is there that another point does not leave as well: `started`, `find`, `making-store`,
`store`, `making-use`, `attach`, `making-part`, `making-file`, `open`, `inspect`, `check`, `verify`, the beginnings of
steps, and for each command what the others have in common with it."""


@pytest.mark.parametrize("tour", TOURS.values(), ids=TOURS.keys())
def test_a_copy_takes_effect_once_whenever_the_agent_dies(depot: Depot, tour: Sequence[Crash]) -> None:
    """Each life of the agent finishes one job, and dies of the next: none has the command of the one before."""
    jobs = [make(depot) for make, _, _ in tour]
    points = [f"{job.command.command}/{point}" for job, (_, point, _) in zip(jobs, tour, strict=True)]
    depot.agent.start(crash_at=points[0])
    for job, (_, point, copies), after in zip(jobs, tour, [*points[1:], None], strict=True):
        job.look()
        request_id = depot.send(job.command)
        depot.agent.wait_crashed()
        depot.agent.start(crash_at=after)
        result = job.result_of(depot.reply(request_id))
        job.assert_done_once(result)
        assert job.copied(result).copies == copies, point


MIDDLE = (copy_jobs.backup, copy_jobs.download_template)


@pytest.mark.parametrize("make", MIDDLE)
def test_a_copy_begins_anew_when_the_agent_dies_in_the_middle_of_it(depot: Depot, make: Make) -> None:
    """Its tools die with it; what they had written is no use to the next run, and is not in its way."""
    job = make(depot, bandwidth_bytes_s=SLOW_BYTES_S * 4)
    depot.agent.start()
    request_id = depot.send(job.command)
    depot.wait_copying(request_id)
    depot.agent.kill()
    depot.wait_for(lambda: not depot.children())
    depot.agent.start()
    result = job.result_of(depot.reply(request_id))
    job.assert_done_once(result)
    assert job.copied(result).copies == AGAIN


def test_a_file_that_has_both_its_names_when_the_agent_dies_is_not_copied_again(depot: Depot) -> None:
    """It is given its name first, and loses its other one then: there is no point between that an agent could die at,
    so the first is done by hand."""
    job = copy_jobs.backup(depot)
    assert job.image is not None
    depot.agent.start(crash_at=f"{job.command.command}/making-file")
    request_id = depot.send(job.command)
    depot.agent.wait_crashed()
    (part,) = depot.names() - job.files
    os.link(depot.files / part, depot.files / job.image.path)
    depot.agent.start()
    result = job.result_of(depot.reply(request_id))
    job.assert_done_once(result)
    assert job.copied(result).copies == ONCE
