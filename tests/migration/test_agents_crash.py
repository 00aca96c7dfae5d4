# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An agent that dies between two steps of a command: what it had begun is gone on with, once, by its next life."""

from collections.abc import Iterator

import pytest

from migration import matrix
from migration.driver import Driver
from traveller import Traveller, traveller
from two_hosts import TwoHosts

ON_DESTINATION = (
    "prepareMigration/ticket:done",
    "prepareMigration/attach:done",
    "prepareMigration/finished",
    "finishMigration/close:begin",
    "finishMigration/close:done",
    "rollbackMigration/detach:done",
    "rollbackMigration/close:begin",
)
ON_SOURCE = (
    "migrateVm/ticket:done",
    "migrateVm/migrate:begin",
    "migrateVm/migrate:done",
    "migrateVm/finished",
    "finishMigration/detach:begin",
    "finishMigration/detach:done",
    "finishMigration/close:done",
    "rollbackMigration/close:begin",
)


@pytest.fixture(scope="module")
def guest(agents: TwoHosts) -> Iterator[Traveller]:
    with traveller(agents) as guest:
        guest.set_out()
        yield guest


@pytest.mark.parametrize("point", ON_DESTINATION)
def test_the_destinations_goes_on(agents: TwoHosts, guest: Traveller, point: str) -> None:
    driver = Driver(agents, guest, guest.host, agents.other(guest.host))
    assert matrix.play_crash(driver, driver.destination.agent, point).startswith(expected(point))


@pytest.mark.parametrize("point", ON_SOURCE)
def test_the_sources_goes_on(agents: TwoHosts, guest: Traveller, point: str) -> None:
    driver = Driver(agents, guest, guest.host, agents.other(guest.host))
    assert matrix.play_crash(driver, driver.source.agent, point).startswith(expected(point))


def expected(point: str) -> str:
    return "stayed" if point.startswith("rollbackMigration") else "moved"
