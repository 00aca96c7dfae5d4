# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The broker, killed at each phase of a migration: the machine runs on one host, with its volumes."""

from collections.abc import Iterator

import pytest

from migration import matrix
from migration.driver import Driver
from private_rabbit import PrivateRabbit, private_rabbit
from traveller import Traveller, traveller
from two_hosts import TwoHosts, two_hosts


@pytest.fixture(scope="module")
def broker(run_directory: object, services: None) -> Iterator[PrivateRabbit]:
    with private_rabbit() as broker:
        yield broker


@pytest.fixture(scope="module")
def hosts(broker: PrivateRabbit) -> Iterator[TwoHosts]:
    with two_hosts(broker=broker) as made:
        yield made


@pytest.fixture(scope="module")
def guest(agents: TwoHosts) -> Iterator[Traveller]:
    with traveller(agents) as guest:
        guest.set_out()
        yield guest


@pytest.mark.parametrize("phase", matrix.PHASES)
def test_the_machine_runs_on_one_host_which_has_its_volumes(
    agents: TwoHosts, guest: Traveller, broker: PrivateRabbit, phase: str, record_property: matrix.Record
) -> None:
    driver = Driver(agents, guest, guest.host, agents.other(guest.host))
    victim = matrix.Victim(broker.stop, broker.start)
    record_property(*matrix.cell("broker", phase, matrix.play(driver, phase, victim)))
