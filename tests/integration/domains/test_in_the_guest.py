# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a booted guest sees of what the agent does to its disks."""

from dataclasses import replace
from time import sleep

import pytest

from domains_contract import DEVICE_BYTES, MIB, disk, soon
from guest.domain_xml import Hardware
from real_lab import RealLab, background
from storpool_agent.errors import GuestNotNotified

pytestmark = pytest.mark.long


def test_a_disk_comes_grows_and_goes_and_its_data_with_it(lab: RealLab) -> None:
    guest, device = lab.guest(), lab.device()
    vm = lab.look_up(guest)
    plugged = lab.domains.plug(vm, disk(device), soon())
    seen = guest.wait_for_disk("serial-1")
    assert (seen.size_bytes, seen.readonly) == (DEVICE_BYTES, False)
    guest.write(seen.name, 0, 2, "seed")
    written = guest.checksum(seen.name, 0, 2)
    lab.grow(device, 2 * DEVICE_BYTES)
    assert lab.domains.resize(plugged, 2 * DEVICE_BYTES, soon()) == 2 * DEVICE_BYTES
    guest.wait_for_size(seen.name, 2 * DEVICE_BYTES)
    assert guest.checksum(seen.name, 0, 2) == written
    lab.domains.unplug(vm, plugged, 20, soon())
    guest.wait_until_gone("serial-1")


def test_a_read_only_disk_is_read_only_in_the_guest(lab: RealLab) -> None:
    guest, device = lab.guest(), lab.device()
    plugged = lab.domains.plug(lab.look_up(guest), replace(disk(device), mode="ro"), soon())
    assert plugged.mode == "ro"
    assert guest.wait_for_disk("serial-1").readonly


def test_scsi_disks_share_the_controller_that_is_there(lab: RealLab) -> None:
    guest = lab.guest(Hardware(scsi=True))
    vm = lab.look_up(guest)
    # libvirt by itself would hot-plug a second controller for the eighth.
    plugged = [
        lab.domains.plug(vm, replace(disk(lab.device(), f"ua-{n}"), bus="scsi", serial=f"scsi-{n}"), soon())
        for n in range(8)
    ]
    assert [each.target for each in plugged] == [f"sd{letter}" for letter in "abcdefgh"]
    assert [each.address for each in plugged] == [f"drive:0:0:0:{unit}" for unit in range(8)]
    guest.wait_for_disk("scsi-7")
    lab.domains.unplug(vm, plugged[3], 20, soon())
    guest.wait_until_gone("scsi-3")
    assert lab.domains.plug(vm, replace(disk(lab.device(), "ua-new"), bus="scsi"), soon()).target == "sdd"


def test_unplugging_right_after_plugging_works_every_time(lab: RealLab) -> None:
    guest, device = lab.guest(), lab.device()
    vm = lab.look_up(guest)
    for _ in range(10):
        lab.domains.unplug(vm, lab.domains.plug(vm, disk(device), soon()), 30, soon())
        assert lab.domains.having([device], soon()) == []


def test_a_guest_that_is_still_booting_lets_go_in_the_end(lab: RealLab) -> None:
    guest, device = lab.guest(), lab.device()
    vm = lab.look_up(guest)
    plugged = lab.domains.plug(vm, disk(device), soon())
    guest.reset()
    lab.domains.unplug(vm, plugged, 25, soon())
    assert lab.domains.having([device], soon()) == []


def test_a_paused_guest_is_asked_again_and_lets_go_when_it_goes_on(lab: RealLab) -> None:
    guest, device = lab.guest(), lab.device()
    vm = lab.look_up(guest)
    plugged = lab.domains.plug(vm, disk(device), soon())
    guest.pause()
    with background(lambda: lab.domains.unplug(vm, plugged, 25, soon())) as unplugging:
        sleep(6.5)
        guest.resume()
        unplugging.result(20)
    assert lab.domains.having([device], soon()) == []


@pytest.mark.parametrize("size", [DEVICE_BYTES - 512, DEVICE_BYTES - MIB])
def test_a_size_below_the_devices_is_never_reported_as_done(lab: RealLab, size: int) -> None:
    """QEMU says yes to it and changes nothing."""
    vm, device = lab.machine(), lab.device()
    plugged = lab.domains.plug(vm, disk(device), soon())
    with pytest.raises(GuestNotNotified) as refusal:
        lab.domains.resize(plugged, size, soon())
    assert refusal.value.facts["size_bytes"] == DEVICE_BYTES
