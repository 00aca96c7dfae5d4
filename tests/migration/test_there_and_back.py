# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine that writes all the time goes there and back ten times."""

from collections.abc import Iterator

import pytest

from migration.driver import Driver
from traveller import Traveller, traveller
from two_hosts import TwoHosts

TIMES = 10


@pytest.fixture
def guest(agents: TwoHosts) -> Iterator[Traveller]:
    with traveller(agents) as guest:
        guest.set_out()
        yield guest


def test_no_record_is_lost_and_the_volumes_follow_there_and_back_ten_times(hosts: TwoHosts, guest: Traveller) -> None:
    for _ in range(TIMES):
        for destination in (hosts.kvm2, hosts.kvm1):
            driver = Driver(
                hosts, guest, guest.host, destination, before=lambda step: check_attached(hosts, guest, step)
            )
            driver.run()
            assert [hosts.attachments(volume) for volume in guest.volumes] == [{destination.name: "rw"}] * 2
            guest.has_come_to(destination)
            guest.still_writes()
    assert guest.come_to_rest() > 2 * 2 * TIMES


def check_attached(hosts: TwoHosts, guest: Traveller, step: str) -> None:
    """Only between the destination's getting ready and the source's detaching does each of them have the volumes."""
    both = {"kvm1": "rw", "kvm2": "rw"}
    alone = {guest.host.name: "rw"}
    expected = alone if step in ("describe", "prepare") else both
    assert [hosts.attachments(volume) for volume in guest.volumes] == [expected] * 2, step
