# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the agent rely on when they say "the guest sees it"."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep

import libvirt
import pytest

from guest import (
    KERNEL_FILE,
    CommandFailed,
    Disk,
    Guest,
    Hardware,
    Machine,
    NoAnswer,
    SilentGuest,
    bootable_disk,
    disk_xml,
    grow,
    pattern_checksum,
)

pytestmark = pytest.mark.long

MIB = 1 << 20
BOOT_S = 30.0  # 3 to 4 s on two idle cores
UNPLUG_S = 10.0


@pytest.fixture
def guest(device: Path) -> Iterator[Guest]:
    with Guest([Disk(device, "vda", serial="first")]) as running:
        yield running


def test_a_guest_boots_within_seconds_and_lists_its_disks(device: Path) -> None:
    began = monotonic()
    with Guest([Disk(device, "vda", serial="first", readonly=True)]) as guest:
        assert monotonic() - began < BOOT_S
        [disk] = guest.disks().values()
        assert (disk.name, disk.size_bytes, disk.readonly, disk.serial) == ("vda", 32 * MIB, True, "first")


def test_a_guest_boots_by_its_bios_from_a_disk_that_holds_the_kernel(device: Path) -> None:
    image = bootable_disk().read_bytes()
    with device.open("r+b") as opened:
        opened.write(image)
    with Guest([Disk(device, "vda", serial="first")], boot_from="vda") as guest:
        assert f"BOOT_IMAGE={KERNEL_FILE} " in guest.kernel_arguments()
        assert "<kernel>" not in guest.domain.XMLDesc()
        half = len(image) // 2 // MIB
        guest.write("vda", half, 4, "on-its-own-disk")
        assert guest.checksum("vda", half, 4) == pattern_checksum(half, 4, "on-its-own-disk")
        assert not image[half * MIB :].strip(b"\0")


def test_what_the_guest_writes_is_on_the_device_of_the_host(guest: Guest, device: Path) -> None:
    guest.write("vda", 5, 3, "seed")
    expected = pattern_checksum(5, 3, "seed")
    assert guest.checksum("vda", 5, 3) == expected
    with device.open("rb", buffering=0) as opened:
        opened.seek(5 * MIB)
        assert sha256(opened.read(3 * MIB)).hexdigest() == expected


def test_a_command_that_fails_says_why(guest: Guest) -> None:
    with pytest.raises(CommandFailed, match="vdz"):
        guest.checksum("vdz", 0, 1)
    with pytest.raises(CommandFailed):
        guest.write("vda", 31, 2, "beyond-the-end")


def test_a_live_resize_reaches_the_guest(guest: Guest, device: Path, tmp_path: Path) -> None:
    grow(device, tmp_path / "disk-0", 48)
    guest.domain.blockResize("vda", 48 * MIB, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    guest.wait_for_size("vda", 48 * MIB)


@pytest.mark.parametrize(("bus", "target"), [("virtio", "vdb"), ("scsi", "sdb")])
def test_a_disk_is_plugged_into_a_running_guest_and_out_again(
    device: Path, make_device: Callable[[int], Path], bus: str, target: str
) -> None:
    second = Disk(make_device(16), target, "scsi" if bus == "scsi" else "virtio", serial="second")
    with Guest([Disk(device, "vda")], hardware=Hardware(scsi=True)) as guest:
        guest.domain.attachDevice(disk_xml(second))
        assert guest.wait_for_disk("second").size_bytes == 16 * MIB
        guest.domain.detachDevice(disk_xml(second))
        guest.wait_until_gone("second")
        assert was_unplugged(guest, target)


def test_a_paused_guest_keeps_a_disk_until_it_goes_on(guest: Guest, make_device: Callable[[int], Path]) -> None:
    second = Disk(make_device(16), "vdb", serial="second")
    guest.domain.attachDevice(disk_xml(second))
    guest.wait_for_disk("second")
    guest.pause()
    with pytest.raises(NoAnswer):
        guest.uptime_s(timeout_s=0.5)
    guest.domain.detachDevice(disk_xml(second))
    assert "vdb" in guest.disk_sources()
    guest.resume()
    assert was_unplugged(guest, "vdb")
    guest.wait_until_gone("second")


def test_a_silent_guest_keeps_a_disk_until_its_reset(device: Path, make_device: Callable[[int], Path]) -> None:
    second = Disk(make_device(16), "vdb")
    with SilentGuest([Disk(device, "vda"), second]) as guest:
        guest.domain.detachDevice(disk_xml(second))
        assert "vdb" in guest.disk_sources()
        guest.reset()
        assert was_unplugged(guest, "vdb")


def test_a_root_disk_is_formatted_once_and_counts_the_boots(device: Path) -> None:
    root = Disk(device, "vda")
    with Guest([root], root="vda") as guest:
        assert guest.boots() == 1
        guest.save("who", "first-guest")
        guest.poweroff()
    with Guest([root], root="vda") as guest:
        assert guest.boots() == 2
        assert guest.load("who") == "first-guest"
        assert "EXT4-fs error" not in guest.output()


def test_a_root_disk_with_something_else_on_it_is_left_alone(device: Path) -> None:
    with device.open("wb") as opened:
        opened.write(b"precious")
    with Guest([Disk(device, "vda")], root="vda") as guest:
        assert guest.boots() == 0
        assert "could not be mounted" in guest.output()
    with device.open("rb") as opened:
        assert opened.read(8) == b"precious"


@pytest.mark.parametrize(("kind", "persistent"), [(Guest, False), (SilentGuest, False), (SilentGuest, True)])
def test_nothing_of_a_guest_remains_when_its_test_fails(kind: type[Machine], persistent: bool) -> None:
    guest = kind(persistent=persistent)
    with pytest.raises(ZeroDivisionError), guest:
        raise ZeroDivisionError
    assert guest.name not in domain_names()
    assert not guest.directory.exists()


def test_nothing_of_a_guest_remains_when_it_cannot_start(tmp_path: Path) -> None:
    guest = Guest([Disk(tmp_path / "no-such-device", "vda")], persistent=True)
    with pytest.raises(libvirt.libvirtError), guest:
        pass
    assert guest.name not in domain_names()
    assert not guest.directory.exists()


def was_unplugged(guest: Machine, target: str) -> bool:
    deadline = monotonic() + UNPLUG_S
    while target in guest.disk_sources() and monotonic() < deadline:
        sleep(0.05)
    return target not in guest.disk_sources()


def domain_names() -> list[str]:
    connection = libvirt.open("qemu:///system")
    try:
        return [domain.name() for domain in connection.listAllDomains()]
    finally:
        connection.close()
