# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at every step of the copy jobs: the next agent finishes, and nothing is there twice or left over."""

from collections.abc import Iterator

import pytest

from integration.agent import copy_jobs
from integration.agent.copies import Depot, running_depot
from integration.agent.copy_jobs import Make
from integration.agent.crashing import through_a_crash

ONCE, AGAIN = 1, 2


@pytest.fixture(scope="module")
def depot(services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Depot]:
    files = tmp_path_factory.mktemp("store")
    with running_depot(files, start=False) as depot:
        yield depot


CRASHES = [
    pytest.param(make, point, copies, id=f"{make.__name__} at {point}")
    for make, points in {
        copy_jobs.backup: {
            "accepted": ONCE,
            "started": AGAIN,
            "find:done": AGAIN,
            "making-store": AGAIN,
            "store:done": AGAIN,
            "making-use": AGAIN,
            "making-attachment": AGAIN,
            "attach:done": AGAIN,
            "making-part": AGAIN,
            "begin:done": AGAIN,
            "copy:done": AGAIN,
            "verify:done": AGAIN,
            "noted": AGAIN,
            "publish:done": ONCE,
            "finished": ONCE,
        },
    }.items()
    for point, copies in points.items()
]


@pytest.mark.parametrize(("make", "point", "copies"), CRASHES)
def test_a_copy_takes_effect_once(depot: Depot, make: Make, point: str, copies: int) -> None:
    job = make(depot)
    result = through_a_crash(depot.stack, job.command, f"{job.command.command}/{point}")
    job.assert_done_once(result)
    assert job.copied(result).copies == copies
    depot.assert_nothing_left()
