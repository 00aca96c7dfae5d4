# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Disks of machines that run are copied while their guests write: nothing is lost, and nobody in there notices."""

import hashlib
import mmap
import os
import subprocess
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from xml.etree import ElementTree as ET

import libvirt
import pytest

from domains_contract import LARGE_BYTES, MIB, Copy, copy, disk, soon, to
from guest import Disk, Guest, pattern
from guest.console import Console
from real_lab import RealLab, background, wait_for
from storpool_agent.domains.hypervisor import Hypervisor
from storpool_agent.domains.model import DiskInDomain, Domain, MirrorTarget
from storpool_agent.errors import BlockJobFailed, Cancelled, CopyStalled, VmNotRunning
from storpool_agent.interrupt import AgentStopping

pytestmark = pytest.mark.long

TOOL_TIMEOUT_S = 30
BOOT_TIMEOUT_S = 90
SLOW = 8 * MIB  # bytes/s: a large disk takes some 6 s
LARGE_MIB = LARGE_BYTES // MIB


@pytest.fixture
def guest(lab: RealLab) -> Guest:
    return lab.guest()


@pytest.fixture
def vm(lab: RealLab, guest: Guest) -> Domain:
    return lab.look_up(guest)


def plugged_large(lab: RealLab, guest: Guest, vm: Domain) -> DiskInDomain:
    plugged = lab.domains.plug(vm, disk(lab.device(LARGE_BYTES)), soon())
    guest.wait_for_disk("serial-1")
    return plugged


def qcow2_in(directory: Path, size_bytes: int = LARGE_BYTES) -> MirrorTarget:
    path = directory / "moved.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size_bytes)]
    subprocess.run(create, check=True, timeout=TOOL_TIMEOUT_S)
    return MirrorTarget(str(path), "qcow2", device=False)


@contextmanager
def writing(guest: Guest, name: str) -> "Generator[Future[dict[int, str]]]":
    """The guest writes all over its disk but the first MiB, until the block ends. Then: by MiB, what it wrote last."""
    over = Event()

    def write() -> dict[int, str]:
        written: dict[int, str] = {}
        for number in count():
            if over.is_set():
                return written
            offset = 1 + 7 * number % (LARGE_MIB - 2)
            guest.write(name, offset, 2, f"pass-{number}")
            written |= dict.fromkeys((offset, offset + 1), f"pass-{number}")
        raise AssertionError

    with background(write) as result:
        try:
            yield result
        finally:
            over.set()


def test_no_write_is_lost_from_device_to_file_to_device(lab: RealLab, guest: Guest, vm: Domain) -> None:
    there = plugged_large(lab, guest, vm)
    first, began = there, guest.uptime_s()
    guest.count_on(there.target)
    targets = [qcow2_in(guest.directory), to(lab.device(LARGE_BYTES))]
    with writing(guest, there.target) as result:
        for target in targets:
            lab.domains.mirror(there, target, Copy(bandwidth_bytes_s=SLOW * 2).task, soon())
            there = lab.domains.pivot(there, target, soon())
            assert there == replace(first, path=target.path)
    written = result.result()
    assert guest.uptime_s() > began
    assert guest.wait_for_disk("serial-1").name == first.target
    for mib, seed in written.items():
        assert guest.checksum(first.target, mib, 1) == checksum(pattern(mib, 1, seed)), f"MiB {mib} in the guest"
    counted = number_on(there.path)
    wait_for(lambda: number_on(there.path) > counted, 20)  # it writes on, and to the new disk
    lab.end(vm)
    assert number_on(there.path) >= number_on(first.path) > 0
    for mib, seed in written.items():
        assert read(there.path, mib * MIB, MIB) == pattern(mib, 1, seed), f"MiB {mib} on the host"


def test_a_machine_starts_from_the_disk_that_it_was_moved_to(lab: RealLab) -> None:
    old, new = lab.device(LARGE_BYTES), lab.device(LARGE_BYTES)
    guest = lab.adopt(Guest([Disk(Path(old), "vda", serial="root")], root="vda", persistent=True, uri=lab.uri))
    [root] = lab.domains.having([old], soon())
    guest.save("before", "one")
    lab.domains.mirror(root, to(new), copy(), soon())
    lab.domains.pivot(root, to(new), soon())
    guest.save("after", "two")
    guest.poweroff()
    assert guest.disk_sources() == {"vda": Path(new)}
    guest.domain.create()
    with Console(guest.directory / "console") as console:
        assert console.ask("boots", BOOT_TIMEOUT_S) == ["2"]
        assert [console.ask(f"load {name}", TOOL_TIMEOUT_S) for name in ("before", "after")] == [["one"], ["two"]]


def test_two_disks_of_one_machine_are_copied_at_once(lab: RealLab, guest: Guest, vm: Domain) -> None:
    disks = [
        lab.domains.plug(vm, replace(disk(lab.device(LARGE_BYTES), f"ua-{n}"), serial=f"s-{n}"), soon()) for n in "ab"
    ]
    targets = [to(lab.device(LARGE_BYTES)) for _ in disks]
    for there in disks:
        guest.wait_for_disk(there.serial or "")
        guest.write(there.target, 20, 2, there.target)
    reported = [Copy(bandwidth_bytes_s=SLOW), Copy(bandwidth_bytes_s=SLOW)]
    with (
        background(lambda: lab.domains.mirror(disks[0], targets[0], reported[0].task, soon())) as first,
        background(lambda: lab.domains.mirror(disks[1], targets[1], reported[1].task, soon())) as second,
    ):
        wait_for(lambda: all(one.reports for one in reported), 20)
        assert [one.done() for one in (first, second)] == [False, False]
    for there, target in zip(disks, targets, strict=True):
        moved = lab.domains.pivot(there, target, soon())
        assert moved == replace(there, path=target.path)
        assert guest.checksum(there.target, 20, 2) == checksum(pattern(20, 2, there.target))


def test_a_copy_that_is_stopped_in_the_middle_leaves_guest_and_disk_as_they_were(
    lab: RealLab, guest: Guest, vm: Domain
) -> None:
    there, target = plugged_large(lab, guest, vm), to(lab.device(LARGE_BYTES))
    guest.write(there.target, 1, 4, "kept")
    stopped = Copy(Cancelled("by a test"), MIB)
    with pytest.raises(Cancelled):
        lab.domains.mirror(there, target, stopped.task, soon())
    done, total = stopped.reports[-1]
    assert total is not None
    assert done < total
    assert not is_mirrored(guest)
    assert guest.disk_sources() == guest.disk_sources(inactive=True) == {there.target: Path(there.path)}
    assert guest.checksum(there.target, 1, 4) == checksum(pattern(1, 4, "kept"))


def test_the_next_run_of_the_agent_goes_on_with_a_copy(lab: RealLab, guest: Guest, vm: Domain) -> None:
    there, target = plugged_large(lab, guest, vm), to(lab.device(LARGE_BYTES))
    guest.write(there.target, 40, 4, "moved")
    with another_run(lab) as first, pytest.raises(AgentStopping):
        first.mirror(there, target, Copy(AgentStopping(), SLOW).task, soon())
    assert is_mirrored(guest)
    with another_run(lab) as second:
        joined = Copy()
        second.mirror(there, target, joined.task, soon())
        assert joined.reports[0][0] > 0
        second.pivot(there, target, soon())
    assert guest.checksum(there.target, 40, 4) == checksum(pattern(40, 4, "moved"))
    assert read(target.path, 40 * MIB, 4 * MIB) == pattern(40, 4, "moved")


def test_what_an_image_below_the_disk_has_is_in_the_copy(lab: RealLab, guest: Guest, vm: Domain) -> None:
    base, top = guest.directory / "base.qcow2", guest.directory / "top.qcow2"
    for command in (
        ["create", "-q", "-f", "qcow2", str(base), str(LARGE_BYTES)],
        ["create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(top)],
    ):
        subprocess.run(["qemu-img", *command], check=True, timeout=TOOL_TIMEOUT_S)
    write = ["qemu-io", "-f", "qcow2", "-c", f"write -P 7 {20 * MIB} {MIB}", str(base)]
    subprocess.run(write, check=True, timeout=TOOL_TIMEOUT_S, stdout=subprocess.DEVNULL)
    guest.domain.attachDeviceFlags(chained_disk(top), libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    [there] = lab.domains.having([str(top)], soon())
    target = to(lab.device(LARGE_BYTES))
    lab.domains.mirror(there, target, copy(), soon())
    moved = lab.domains.pivot(there, target, soon())
    assert (moved.live, moved.config) == (True, True)
    assert read(target.path, 20 * MIB, MIB) == bytes([7]) * MIB
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        assert str(base) not in guest.domain.XMLDesc(flags)


def test_a_file_system_that_is_full_ends_the_copy_and_not_the_machine(lab: RealLab, full_soon: Path) -> None:
    # QEMU sees what was mounted when it was started, and needs no O_DIRECT of a tmpfs for such a disk.
    guest, old = lab.guest(), lab.device(LARGE_BYTES)
    with Path(old).open("r+b") as device:
        device.write(os.urandom(LARGE_BYTES))
    vm = lab.look_up(guest)
    there = lab.domains.plug(vm, replace(disk(old), cache="writeback", io=None), soon())
    guest.wait_for_disk("serial-1")
    guest.count_on(there.target)
    guest.write(there.target, 1, 2, "kept")
    with pytest.raises(BlockJobFailed) as failure:
        lab.domains.mirror(there, qcow2_in(full_soon), copy(), soon())
    assert "no room left" in str(failure.value)
    assert not is_mirrored(guest)
    counted = number_on(old)
    wait_for(lambda: number_on(old) > counted, 20)
    assert guest.checksum(there.target, 1, 2) == checksum(pattern(1, 2, "kept"))


def test_a_copy_that_does_not_move_is_given_up(lab: RealLab, guest: Guest, vm: Domain) -> None:
    there, target = plugged_large(lab, guest, vm), to(lab.device(LARGE_BYTES))
    guest.count_on(there.target)  # what the guest writes is no progress
    with pytest.raises(CopyStalled) as stalled:
        lab.domains.mirror(there, target, replace(Copy(bandwidth_bytes_s=1).task, stall_timeout_s=3), soon())
    assert stalled.value.facts["total_bytes"] != stalled.value.facts["done_bytes"]
    assert not is_mirrored(guest)


def test_the_disk_of_a_paused_machine_is_copied(lab: RealLab, guest: Guest, vm: Domain) -> None:
    there, target = plugged_large(lab, guest, vm), to(lab.device(LARGE_BYTES))
    guest.pause()
    lab.domains.mirror(there, target, copy(), soon())
    assert lab.domains.pivot(there, target, soon()).path == target.path
    guest.resume()
    guest.write(there.target, 3, 1, "after")
    assert read(target.path, 3 * MIB, MIB) == pattern(3, 1, "after")


def test_somebody_who_ends_the_copy_is_not_the_storages_fault(lab: RealLab, guest: Guest, vm: Domain) -> None:
    there, target = plugged_large(lab, guest, vm), to(lab.device(LARGE_BYTES))
    under_way = Copy(bandwidth_bytes_s=MIB)
    with background(lambda: lab.domains.mirror(there, target, under_way.task, soon())) as mirroring:
        wait_for(lambda: bool(under_way.reports), 20)
        guest.domain.blockJobAbort(there.target)
        with pytest.raises(BlockJobFailed, match="somebody has ended it"):
            mirroring.result(20)


def test_a_machine_that_stops_takes_its_copy_with_it(lab: RealLab, guest: Guest, vm: Domain) -> None:
    there, target = plugged_large(lab, guest, vm), to(lab.device(LARGE_BYTES))
    under_way = Copy(bandwidth_bytes_s=MIB)
    with background(lambda: lab.domains.mirror(there, target, under_way.task, soon())) as mirroring:
        wait_for(lambda: bool(under_way.reports), 20)
        lab.end(vm)
        with pytest.raises(VmNotRunning):
            mirroring.result(20)


def test_the_copy_is_opened_as_the_disk_was(lab: RealLab, guest: Guest, vm: Domain) -> None:
    there, target = plugged_large(lab, guest, vm), to(lab.device(LARGE_BYTES))
    before = drivers(guest)
    lab.domains.mirror(there, target, copy(), soon())
    lab.domains.pivot(there, target, soon())
    assert drivers(guest) == before
    assert {"cache": "none", "io": "native", "discard": "unmap"}.items() <= before[0].items()


@pytest.fixture
def full_soon() -> Iterator[Path]:
    """A directory with room for half of a large disk."""
    with TemporaryDirectory(prefix="small-") as directory:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={LARGE_BYTES // 2},mode=755", "tmpfs", directory]
        subprocess.run(mount, check=True, timeout=TOOL_TIMEOUT_S)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True, timeout=TOOL_TIMEOUT_S)


@contextmanager
def another_run(lab: RealLab) -> Generator[Hypervisor]:
    """The agent, started and stopped."""
    hypervisor = Hypervisor(lab.uri, Event())
    hypervisor.start()
    try:
        yield hypervisor
    finally:
        hypervisor.stop()


def is_mirrored(guest: Guest) -> bool:
    return ET.fromstring(guest.domain.XMLDesc()).find("devices/disk/mirror") is not None  # noqa: S314 (libvirt wrote it)


def drivers(guest: Guest) -> list[dict[str, str]]:
    """Now and in the configuration."""
    parts = [
        ET.fromstring(guest.domain.XMLDesc(flags))  # noqa: S314
        for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE)
    ]
    return [dict(driver.attrib) for part in parts for driver in part.iterfind("devices/disk/driver")]


def chained_disk(image: Path) -> str:
    root = ET.Element("disk", type="file", device="disk")
    ET.SubElement(root, "driver", name="qemu", type="qcow2")
    ET.SubElement(root, "source", file=str(image))
    ET.SubElement(root, "target", dev="vda", bus="virtio")
    return ET.tostring(root, encoding="unicode")


def read(path: str, offset: int, size: int) -> bytes:
    """From the device, not from a cache."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, size) as buffer:
            assert os.preadv(descriptor, [buffer], offset) == size
            return buffer[:]
    finally:
        os.close(descriptor)


def number_on(path: str) -> int:
    """What a guest's `count_on` has written last."""
    return int(read(path, 0, 4096)[:511].strip(b"\0") or b"0")


def checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
