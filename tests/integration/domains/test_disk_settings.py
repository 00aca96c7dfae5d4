# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What libvirt makes of a disk's settings, and of values that would be somebody's attack."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest

from domains_contract import disk, soon
from real_lab import RealLab, wait_for
from storpool_agent.domains.model import Domain
from storpool_agent.errors import DiskInUseByVm, LibvirtRefused
from storpool_commands.disks import IoTune

HOSTILE = [
    pytest.param("x'/><disk type='file'><source file='/etc/shadow'/></disk><a b='", id="ends the attribute"),
    pytest.param("</serial><shareable/><serial>", id="ends the element"),
    pytest.param("&lt;&#x27;]]><!--", id="entities and comments"),
    pytest.param("../../etc/passwd", id="a path"),
    pytest.param("a" * 300, id="too long"),
]


def disks_of(lab: RealLab, vm: Domain) -> list[Element]:
    return fromstring(lab.machines[vm.uuid].domain.XMLDesc()).findall("devices/disk")  # noqa: S314


@pytest.mark.parametrize("serial", HOSTILE)
def test_a_hostile_serial_stays_a_serial_or_is_refused(lab: RealLab, serial: str) -> None:
    vm, device = lab.machine(), lab.device()
    try:
        plugged = lab.domains.plug(vm, replace(disk(device), serial=serial), soon())
    except LibvirtRefused:
        assert disks_of(lab, vm) == []
        assert lab.domains.having([device], soon()) == []
    else:
        [only] = disks_of(lab, vm)
        assert (only.findtext("serial"), plugged.serial) == (serial, serial)
        assert only.find("shareable") is None


def test_limits_cache_and_discard_reach_libvirt(lab: RealLab) -> None:
    vm, device = lab.machine(), lab.device()
    wished = replace(
        disk(device),
        cache="directsync",
        io="threads",
        discard="ignore",
        iotune=IoTune(total_iops_sec=500, read_bytes_sec=1_000_000, write_bytes_sec=2_000_000),
    )
    lab.domains.plug(vm, wished, soon())
    [only] = disks_of(lab, vm)
    driver = only.find("driver")
    assert driver is not None
    assert [driver.get(name) for name in ("cache", "io", "discard")] == ["directsync", "threads", "ignore"]
    assert {limit.tag: limit.text for limit in only.iterfind("iotune/*")} == {
        "total_iops_sec": "500",
        "read_bytes_sec": "1000000",
        "write_bytes_sec": "2000000",
    }


def test_a_device_that_another_qemu_has_open_is_refused_by_its_lock(own_lab: RealLab) -> None:
    vm, device = own_lab.machine(), own_lab.device()
    with opened_by_qemu_io(device), pytest.raises(DiskInUseByVm):
        own_lab.domains.plug(vm, disk(device), soon())
    assert own_lab.domains.having([device], soon()) == []


@contextmanager
def opened_by_qemu_io(device: str) -> Generator[None]:
    with subprocess.Popen(["qemu-io", "-f", "raw", "-c", "sleep 60000", device]) as process:
        try:
            lock = f":{Path(device).stat().st_ino} "
            wait_for(lambda: lock in Path("/proc/locks").read_text(), 10)
            yield
        finally:
            process.kill()
