# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine moves to another host and back, by two agents; what may go wrong on the way is in tests/migration."""

from collections.abc import Iterator

import pytest

from migration.driver import Driver
from traveller import traveller
from two_hosts import TwoHosts, two_hosts

pytestmark = pytest.mark.long


@pytest.fixture
def hosts(run_directory: object, services: None) -> Iterator[TwoHosts]:
    with two_hosts() as made:
        made.start_agents()
        yield made


def test_a_running_machine_and_its_volumes_go_to_another_host_and_back(hosts: TwoHosts) -> None:
    with traveller(hosts) as guest:
        guest.set_out()
        for destination in (hosts.kvm2, hosts.kvm1):
            Driver(hosts, guest, guest.host, destination).run()
            guest.has_come_to(destination)
            guest.still_writes()
            assert [hosts.attachments(volume) for volume in guest.volumes] == [{destination.name: "rw"}] * 2
        guest.come_to_rest()
