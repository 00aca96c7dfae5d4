# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of migration rely on when they say "two hosts": no agent runs here."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from guest import RecordsDamaged, check_records
from guest.records import RECORD_BYTES
from migration.plain import migrate
from traveller import FIRST_MIB, Traveller, traveller
from two_hosts import TwoHosts

MIB = 1 << 20


@pytest.fixture(scope="module")
def shared_guest(hosts: TwoHosts) -> Iterator[Traveller]:
    with traveller(hosts) as guest:
        guest.set_out()
        yield guest


@pytest.fixture
def guest(hosts: TwoHosts, shared_guest: Traveller) -> Traveller:
    assert shared_guest.host is hosts.kvm1
    return shared_guest


def attach(hosts: TwoHosts, volumes: list[str], client: int) -> None:
    for volume in volumes:
        hosts.storpool.attach(volume, client)


def test_each_host_finds_its_own_device_of_a_volume_under_one_path(hosts: TwoHosts) -> None:
    volume = hosts.volume(MIB)
    numbers: list[int] = []
    for host in (hosts.kvm1, hosts.kvm2):
        hosts.storpool.attach(volume, host.client)
        seen = Path(f"/proc/{host.libvirtd.pid}/root") / host.path(volume).relative_to("/")
        # The link is absolute: what it leads to is looked up from the outside.
        numbers.append(seen.readlink().stat().st_rdev)
        assert numbers[-1] == host.device(volume).stat().st_rdev
    assert len({host.path(volume) for host in (hosts.kvm1, hosts.kvm2)}) == 1
    assert len(set(numbers)) == 2


def test_what_one_host_writes_directly_the_other_reads_directly(hosts: TwoHosts) -> None:
    volume = hosts.volume(MIB)
    attach(hosts, [volume], hosts.kvm1.client)
    attach(hosts, [volume], hosts.kvm2.client)
    for number, (writer, reader) in enumerate(((hosts.kvm1, hosts.kvm2), (hosts.kvm2, hosts.kvm1)) * 3):
        block = bytearray([number + 1]) * RECORD_BYTES
        assert read_directly(reader.device(volume)) != block
        write_directly(writer.device(volume), block)
        assert read_directly(reader.device(volume)) == block
    for host in (hosts.kvm1, hosts.kvm2):
        loop = Path(f"/sys/dev/block/7:{os.minor(host.device(volume).stat().st_rdev)}")
        assert (loop / "loop" / "dio").read_text().strip() == "1"


def test_hosts_have_names_ids_and_a_network_of_their_own(hosts: TwoHosts) -> None:
    connections = [libvirt.open(host.uri) for host in (hosts.kvm1, hosts.kvm2)]
    try:
        assert [each.getHostname() for each in connections] == ["kvm1", "kvm2"]
        ids = {each.getCapabilities().split("<uuid>")[1].split("<")[0] for each in connections}
        assert len(ids) == 2
    finally:
        for each in connections:
            each.close()


def test_machines_survive_the_death_of_their_libvirtd(hosts: TwoHosts, guest: Traveller) -> None:
    hosts.kvm1.libvirtd.kill()
    guest.still_writes()
    hosts.kvm1.libvirtd.start()
    guest.has_come_to(hosts.kvm1)
    assert hosts.kvm1.machines() == {guest.uuid: libvirt.VIR_DOMAIN_RUNNING}
    guest.still_writes()


def test_a_machine_goes_there_and_back_and_loses_no_record(hosts: TwoHosts, guest: Traveller) -> None:
    attach(hosts, guest.volumes, hosts.kvm2.client)
    for destination in (hosts.kvm2, hosts.kvm1):
        migrate(guest, destination)
        guest.has_come_to(destination)
        guest.still_writes()
        assert destination.machines() == {guest.uuid: libvirt.VIR_DOMAIN_RUNNING}
        assert hosts.other(destination).machines() == {}
        assert hosts.other(destination).qemus() == []
    assert guest.come_to_rest() > 4
    for volume in guest.volumes:
        hosts.storpool.detach(volume, hosts.kvm2.client)


def test_a_lost_a_torn_and_a_strange_record_are_found(hosts: TwoHosts, guest: Traveller) -> None:
    device, first = hosts.kvm1.device(guest.volumes[1]), FIRST_MIB * MIB
    count = check_records(device, FIRST_MIB, guest.promised)
    good = read_directly(device, first + 2 * RECORD_BYTES)
    for bad, why in (
        (bytearray(RECORD_BYTES), "lost"),
        (good[:512] + bytearray(RECORD_BYTES - 512), "torn"),
        (read_directly(device, first + RECORD_BYTES), "is no record 2"),
    ):
        write_directly(device, bad, first + 2 * RECORD_BYTES)
        with pytest.raises(RecordsDamaged, match=why):
            check_records(device, FIRST_MIB, guest.promised)
    write_directly(device, good, first + 2 * RECORD_BYTES)
    assert check_records(device, FIRST_MIB, guest.promised) == count


def read_directly(device: Path, offset: int = 0) -> bytearray:
    opened = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, RECORD_BYTES) as page:
            assert os.preadv(opened, [page], offset) == RECORD_BYTES
            return bytearray(page)
    finally:
        os.close(opened)


def write_directly(device: Path, block: bytes | bytearray, offset: int = 0) -> None:
    opened = os.open(device, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, RECORD_BYTES) as page:
            page[:] = bytes(block)
            assert os.pwritev(opened, [page], offset) == RECORD_BYTES
    finally:
        os.close(opened)
