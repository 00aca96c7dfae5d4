# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What libvirt alone makes of a migration in which a libvirtd dies: the agents have to live with it."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import libvirt
import pytest

from kvm_host import KvmHost
from migration.moments import before_confirm, before_finish, wait_for_the_middle
from migration.plain import SLOW_MIB_S, migrate
from real_lab import background, wait_for
from traveller import Traveller, traveller
from two_hosts import TwoHosts

RUNNING, PAUSED = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED
GONE_TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def shared_guest(hosts: TwoHosts) -> Iterator[Traveller]:
    with traveller(hosts) as guest:
        for volume in guest.volumes:
            hosts.storpool.attach(volume, hosts.kvm2.client)
        guest.set_out()
        yield guest


@pytest.fixture
def guest(hosts: TwoHosts, shared_guest: Traveller) -> Iterator[Traveller]:
    """It runs on one host alone, and after the test again, with every record that it has ever written."""
    yield shared_guest
    shared_guest.has_come_to(shared_guest.host)
    shared_guest.still_writes()
    assert hosts.other(shared_guest.host).machines() == {}
    with shared_guest.paused():
        shared_guest.check_disks()


def test_when_the_sources_dies_in_the_middle_the_machine_stays(hosts: TwoHosts, guest: Traveller) -> None:
    source, destination = guest.host, hosts.other(guest.host)
    with failing_migration(guest, destination):
        wait_for_the_middle(source, guest.uuid)
        source.libvirtd.kill()
    source.libvirtd.start()
    assert source.machines() == {guest.uuid: RUNNING}
    wait_for(lambda: destination.qemus() == [], GONE_TIMEOUT_S)


def test_when_the_destinations_dies_in_the_middle_the_machine_stays(hosts: TwoHosts, guest: Traveller) -> None:
    source, destination = guest.host, hosts.other(guest.host)
    with failing_migration(guest, destination):
        wait_for_the_middle(source, guest.uuid)
        destination.libvirtd.kill()
    assert source.machines() == {guest.uuid: RUNNING}
    destination.libvirtd.start()
    wait_for(lambda: destination.qemus() == [], GONE_TIMEOUT_S)


def test_when_the_destinations_dies_before_it_finishes_the_source_goes_on(hosts: TwoHosts, guest: Traveller) -> None:
    """It does not ask whether the destination had finished: a moment later the machine would run on both."""
    source, destination = guest.host, hosts.other(guest.host)
    with failing_migration(guest, destination), before_finish(source, destination, guest.uuid):
        destination.libvirtd.kill()
        wait_for(lambda: source.machines() == {guest.uuid: RUNNING}, GONE_TIMEOUT_S)
        assert len(destination.qemus()) == 1
    destination.libvirtd.start()
    wait_for(lambda: destination.qemus() == [], GONE_TIMEOUT_S)


def test_when_the_sources_dies_before_it_confirms_a_paused_machine_is_left(hosts: TwoHosts, guest: Traveller) -> None:
    source, destination = guest.host, hosts.other(guest.host)
    with failing_migration(guest, destination), before_confirm(source, destination, guest.uuid):
        source.libvirtd.kill()
    source.libvirtd.start()
    assert source.machines() == {guest.uuid: PAUSED}
    assert destination.machines() == {guest.uuid: RUNNING}
    remove(source, guest.uuid)
    guest.has_come_to(destination)


def test_when_both_die_before_the_finish_only_that_of_the_source_is_left(hosts: TwoHosts, guest: Traveller) -> None:
    source, destination = guest.host, hosts.other(guest.host)
    with failing_migration(guest, destination), before_finish(source, destination, guest.uuid):
        source.libvirtd.kill()
        destination.libvirtd.kill()
    for host in (source, destination):
        host.libvirtd.start()
    assert source.machines() == {guest.uuid: PAUSED}
    wait_for(lambda: destination.qemus() == [], GONE_TIMEOUT_S)
    guest.has_come_to(source)
    guest.resume()
    guest.still_writes()


@contextmanager
def failing_migration(guest: Traveller, destination: KvmHost) -> Generator[None]:
    """One that is under way in the block, slowly, and which libvirt then says has failed."""
    with background(lambda: migrate(guest, destination, SLOW_MIB_S)) as migration:
        yield
    assert isinstance(migration.exception(), libvirt.libvirtError)


def remove(host: KvmHost, vm: str) -> None:
    connection = libvirt.open(host.uri)
    try:
        domain = connection.lookupByUUIDString(vm)
        domain.destroy()
        domain.undefine()
    finally:
        connection.close()
