# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Each libvirtd, and both, killed at each phase of a migration: the machine runs on one host, with its volumes."""

from collections.abc import Iterator

import pytest

from migration import matrix
from migration.driver import Driver
from traveller import Traveller, traveller
from two_hosts import TwoHosts


@pytest.fixture(scope="module")
def guest(agents: TwoHosts) -> Iterator[Traveller]:
    with traveller(agents) as guest:
        guest.set_out()
        yield guest


@pytest.mark.parametrize("phase", matrix.PHASES)
@pytest.mark.parametrize("victim", ["libvirtd of the source", "libvirtd of the destination", "both libvirtd"])
def test_the_machine_runs_on_one_host_which_has_its_volumes(
    agents: TwoHosts, guest: Traveller, victim: str, phase: str, record_property: matrix.Record
) -> None:
    driver = Driver(agents, guest, guest.host, agents.other(guest.host))
    record_property(*matrix.cell(victim, phase, matrix.play(driver, phase, matrix.victims(driver)[victim])))
