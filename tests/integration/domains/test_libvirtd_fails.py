# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""libvirtd killed, hung, restarted; QEMU hung; machines that end in the middle of it all."""

import json
import os
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import libvirt
import pytest

from domains_contract import DEVICE_BYTES, disk, soon
from private_libvirtd import PrivateLibvirtd, unwritable
from real_lab import RealLab, background, wait_for
from standstill import stop
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Domain
from storpool_agent.errors import (
    AgentError,
    LibvirtRefused,
    LibvirtTimeout,
    LibvirtUnavailable,
    UnplugPending,
    VmBusy,
)

pytestmark = pytest.mark.long


def test_without_libvirtd_the_answer_is_quick_and_with_it_right(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd
) -> None:
    vm = own_lab.machine()
    private_libvirtd.kill()
    began = monotonic()
    with pytest.raises(LibvirtUnavailable):
        own_lab.domains.find(vm.uuid, soon())
    assert monotonic() - began < 5
    private_libvirtd.start()
    assert own_lab.domains.find(vm.uuid, soon()) == vm


def test_a_restart_is_announced_and_events_are_live_again(own_lab: RealLab, private_libvirtd: PrivateLibvirtd) -> None:
    vm = own_lab.machine()
    assert own_lab.told == [None]
    private_libvirtd.kill()
    private_libvirtd.start()
    wait_for(lambda: own_lab.told == [None, None], 10)
    with by_new_connection(own_lab, vm) as machine:
        machine.destroy()
    wait_for(lambda: own_lab.told == [None, None, vm.uuid], 10)


def test_ten_restarts_leave_no_thread_and_no_descriptor(own_lab: RealLab, private_libvirtd: PrivateLibvirtd) -> None:
    own_lab.domains.having([], soon())
    before = (threading.active_count(), descriptors())
    for _ in range(10):
        private_libvirtd.kill()
        private_libvirtd.start()
        wait_for(lambda: answers(own_lab), 10)
    # libvirt frees what a connection had in a later turn of the event loop
    wait_for(lambda: (threading.active_count(), descriptors()) == before, 5)


def test_a_call_in_flight_over_a_restart_is_asked_again(own_lab: RealLab, private_libvirtd: PrivateLibvirtd) -> None:
    vm = own_lab.machine()
    with background(lambda: [own_lab.domains.find(vm.uuid, soon()) for _ in range(2000)]) as asking:
        sleep(0.2)
        private_libvirtd.kill()
        private_libvirtd.start()
        assert set(asking.result(60)) == {vm}


def test_a_hung_libvirtd_is_a_timeout_and_forgotten_when_it_goes_on(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd
) -> None:
    vm = own_lab.machine()
    threads = threading.active_count()
    private_libvirtd.hang()
    for ask in (
        lambda: own_lab.domains.find(vm.uuid, soon()),
        lambda: own_lab.domains.plug(vm, disk(own_lab.device()), soon()),
        lambda: own_lab.domains.having([], soon()),
    ):
        began = monotonic()
        with pytest.raises(LibvirtTimeout):
            ask()
        assert monotonic() - began < 20
    assert threading.active_count() == threads
    own_lab.told.clear()
    private_libvirtd.go_on()
    wait_for(lambda: own_lab.told == [None], 10)
    assert own_lab.domains.find(vm.uuid, soon()) == vm


def test_a_call_that_was_given_up_is_not_carried_out_later(own_lab: RealLab, private_libvirtd: PrivateLibvirtd) -> None:
    vm, device = own_lab.machine(), own_lab.device()
    plugged = own_lab.domains.plug(vm, disk(device), soon())
    own_lab.grow(device, 2 * DEVICE_BYTES)
    threads = threading.active_count()
    private_libvirtd.hang()
    began = monotonic()
    with pytest.raises(LibvirtTimeout):
        own_lab.domains.resize(plugged, 2 * DEVICE_BYTES, Deadline.after(2))
    assert monotonic() - began < 8
    private_libvirtd.go_on()
    wait_for(lambda: threading.active_count() == threads, 5)
    assert own_lab.machines[vm.uuid].domain.blockInfo(device)[0] == DEVICE_BYTES
    assert own_lab.domains.resize(plugged, 2 * DEVICE_BYTES, soon()) == 2 * DEVICE_BYTES


def test_an_unplug_survives_a_restart_that_swallows_the_event(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd
) -> None:
    guest, device = own_lab.guest(), own_lab.device()
    vm = own_lab.look_up(guest)
    plugged = own_lab.domains.plug(vm, disk(device), soon())
    guest.pause()
    with background(lambda: own_lab.domains.unplug(vm, plugged, 25, soon())) as unplugging:
        wait_for(lambda: halves(own_lab, device) == [(True, False)], 5)
        sleep(0.3)
        private_libvirtd.kill()
        resume_by_monitor(private_libvirtd, vm)
        private_libvirtd.start()
        unplugging.result(40)
    assert own_lab.domains.having([device], soon()) == []


@pytest.mark.parametrize("persistent", [True, False])
def test_a_machine_that_ends_in_the_middle_of_an_unplug_has_let_go(own_lab: RealLab, persistent: bool) -> None:
    vm, device = own_lab.machine(persistent=persistent), own_lab.device()
    plugged = own_lab.domains.plug(vm, replace(disk(device), config=persistent), soon())
    with background(lambda: own_lab.domains.unplug(vm, plugged, 25, soon())) as unplugging:
        sleep(0.5)
        own_lab.end(vm)
        began = monotonic()
        unplugging.result(10)
        assert monotonic() - began < 5
    assert own_lab.domains.having([device], soon()) == []


def test_a_qemu_that_is_killed_has_let_go(own_lab: RealLab, private_libvirtd: PrivateLibvirtd) -> None:
    vm, device = own_lab.machine(), own_lab.device()
    plugged = own_lab.domains.plug(vm, disk(device), soon())
    with background(lambda: own_lab.domains.unplug(vm, plugged, 25, soon())) as unplugging:
        sleep(0.5)
        os.kill(qemu_pid(private_libvirtd, vm), signal.SIGKILL)
        unplugging.result(10)
    assert own_lab.domains.having([device], soon()) == []


def test_a_hung_qemu_holds_up_its_own_machine_only(own_lab: RealLab, private_libvirtd: PrivateLibvirtd) -> None:
    hung, fine = own_lab.machine(), own_lab.machine()
    device = own_lab.device()
    threads = threading.active_count()
    qemu = qemu_pid(private_libvirtd, hung)
    stop(qemu)
    try:
        began = monotonic()
        with pytest.raises(LibvirtTimeout):
            own_lab.domains.plug(hung, disk(device), Deadline.after(2))
        assert monotonic() - began < 8
        with pytest.raises(VmBusy):
            own_lab.domains.plug(hung, disk(device), soon())
        assert threading.active_count() == threads + 1
        own_lab.domains.plug(fine, disk(own_lab.device()), soon())
    finally:
        os.kill(qemu, signal.SIGCONT)
    wait_for(lambda: threading.active_count() == threads, 5)
    assert own_lab.domains.plug(hung, disk(device), soon()).live


def test_a_configuration_that_cannot_be_saved_leaves_the_machine_without_the_disk(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd
) -> None:
    guest, device = own_lab.guest(), own_lab.device()
    vm = own_lab.look_up(guest)
    with unwritable(private_libvirtd.root / "etc" / "qemu"), pytest.raises(LibvirtRefused):
        own_lab.domains.plug(vm, disk(device), soon())
    assert own_lab.domains.having([device], soon()) == []
    assert own_lab.domains.plug(vm, disk(device), soon()).config


def test_a_stop_of_the_agent_ends_the_wait_for_a_guest(lab: RealLab) -> None:
    vm, device = lab.machine(), lab.device()
    plugged = lab.domains.plug(vm, disk(device), soon())
    with background(lambda: lab.domains.unplug(vm, plugged, 25, soon())) as unplugging:
        lab.stopping.set()
        with pytest.raises(UnplugPending):
            unplugging.result(5)


def answers(lab: RealLab) -> bool:
    try:
        lab.domains.having([], soon())
    except AgentError:
        return False
    return True


def halves(lab: RealLab, device: str) -> list[tuple[bool, bool]]:
    return [(there.live, there.config) for there in lab.domains.having([device], soon())]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def qemu_pid(libvirtd: PrivateLibvirtd, vm: Domain) -> int:
    return int((libvirtd.root / "run" / "qemu" / f"{vm.name}.pid").read_text())


@contextmanager
def by_new_connection(lab: RealLab, vm: Domain) -> Generator[libvirt.virDomain]:
    """The lab's own ended with the libvirtd that it led to."""
    connection = libvirt.open(lab.uri)
    try:
        yield connection.lookupByUUIDString(vm.uuid)
    finally:
        connection.close()


def resume_by_monitor(libvirtd: PrivateLibvirtd, vm: Domain) -> None:
    """Have QEMU go on while no libvirtd is there to hear what the guest does then."""
    [socket_path] = (libvirtd.root / "lib" / "qemu").glob(f"domain-*-{vm.name[:20]}*/monitor.sock")
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(5)
        monitor.connect(str(socket_path))
        lines = monitor.makefile("rw")
        for command in ("qmp_capabilities", "cont"):
            lines.write(json.dumps({"execute": command}) + "\n")
            lines.flush()
        while "DEVICE_DELETED" not in lines.readline():
            pass
