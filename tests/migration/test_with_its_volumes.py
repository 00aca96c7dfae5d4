# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine moves from files of one host to StorPool on another, and writes all the while."""

from collections.abc import Iterator

import pytest

from migration.driver import Driver
from storpool_commands.copies import MigrateVolume
from storpool_commands.images import StoredImage
from traveller import FILES, Traveller, traveller_in_files
from two_hosts import TEMPLATE, TwoHosts


@pytest.fixture
def guest(agents: TwoHosts) -> Iterator[Traveller]:
    with traveller_in_files(agents) as guest:
        guest.set_out()
        yield guest


def test_two_disks_in_files_become_volumes_that_the_other_host_has(agents: TwoHosts, guest: Traveller) -> None:
    volumes = [to_storpool(agents, guest, name) for name in FILES]
    moved = Driver(agents, guest, agents.kvm1, agents.kvm2, volumes=volumes).run().volumes
    assert [each.method for each in moved] == ["live", "live"]
    guest.volumes = [each.volume for each in moved if each.volume]
    guest.has_come_to(agents.kvm2)
    guest.still_writes()
    assert [agents.attachments(volume) for volume in guest.volumes] == [{"kvm2": "rw"}] * 2
    assert list(agents.kvm1.images.iterdir()) == []
    guest.come_to_rest()


def to_storpool(hosts: TwoHosts, guest: Traveller, name: str) -> MigrateVolume:
    file = StoredImage(store=f"file://{hosts.kvm1.here / 'images'}", path=name)
    return MigrateVolume(source=file, source_format="raw", template=TEMPLATE, vm=guest.uuid, delete_source=True)
