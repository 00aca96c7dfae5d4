# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The broker and each libvirtd, killed at each phase of a migration: the machine runs on one host, with its volumes."""

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
@pytest.mark.parametrize("victim", ["libvirtd of the source", "libvirtd of the destination", "broker"])
def test_the_machine_runs_on_one_host_which_has_its_volumes(
    agents: TwoHosts,
    guest: Traveller,
    broker: PrivateRabbit,
    victim: str,
    phase: str,
    record_property: matrix.Record,
) -> None:
    driver = Driver(agents, guest, guest.host, agents.other(guest.host))
    ended = matrix.play(driver, phase, matrix.victims(driver, broker)[victim])
    record_property(*matrix.cell(victim, phase, ended))
