# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""libvirtd killed and QEMU hung while a disk is copied: the copy is found again, or it is said that it runs on."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from domains_contract import LARGE_BYTES, MIB, Copy, copy, disk, soon, to
from private_libvirtd import PrivateLibvirtd, unwritable
from real_lab import RealLab, background, wait_for
from standstill import stop
from storpool_agent.deadline import Deadline
from storpool_agent.domains import mirroring, progress
from storpool_agent.domains.model import DiskInDomain, Domain
from storpool_agent.errors import (
    BlockJobFailed,
    Cancelled,
    LibvirtRefused,
    LibvirtTimeout,
    LibvirtUnavailable,
    VmBusy,
)
from storpool_agent.interrupt import AgentStopping

pytestmark = pytest.mark.long

SLOW = 4 * MIB  # bytes/s: a large disk takes some 12 s


@pytest.fixture
def vm(own_lab: RealLab) -> Domain:
    return own_lab.machine()


@pytest.fixture
def there(own_lab: RealLab, vm: Domain) -> DiskInDomain:
    return own_lab.domains.plug(vm, disk(own_lab.device(LARGE_BYTES)), soon())


def test_a_copy_goes_on_over_restarts_of_libvirtd(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd, there: DiskInDomain
) -> None:
    target, slow = to(own_lab.device(LARGE_BYTES)), Copy(bandwidth_bytes_s=SLOW)
    with background(lambda: own_lab.domains.mirror(there, target, slow.task, soon())) as under_way:
        wait_for(lambda: bool(slow.reports), 20)
        for _ in range(2):
            private_libvirtd.kill()
            private_libvirtd.start()
        under_way.result(60)
    assert own_lab.domains.pivot(there, target, soon()) == replace(there, path=target.path)


def test_a_copy_that_is_done_while_libvirtd_is_down_is_seen_when_it_is_back(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd, there: DiskInDomain
) -> None:
    target, slow = to(own_lab.device(LARGE_BYTES)), Copy(bandwidth_bytes_s=SLOW * 4)
    with background(lambda: own_lab.domains.mirror(there, target, slow.task, soon())) as under_way:
        wait_for(lambda: bool(slow.reports), 20)
        private_libvirtd.kill()
        with pytest.raises(TimeoutError):
            under_way.result(8)
        private_libvirtd.start()
        under_way.result(30)
    assert own_lab.domains.pivot(there, target, soon()).path == target.path


def test_a_libvirtd_that_does_not_come_back_leaves_a_copy_and_that_is_said(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd, there: DiskInDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 3)
    target, slow = to(own_lab.device(LARGE_BYTES)), Copy(bandwidth_bytes_s=SLOW)
    with background(lambda: own_lab.domains.mirror(there, target, slow.task, soon())) as under_way:
        wait_for(lambda: bool(slow.reports), 20)
        private_libvirtd.kill()
        with pytest.raises(LibvirtUnavailable, match="runs on, unwatched"):
            under_way.result(60)
    private_libvirtd.start()
    own_lab.domains.end_mirror(there.domain.uuid, target.path, soon())
    with pytest.raises(BlockJobFailed):
        own_lab.domains.pivot(there, target, soon())


def test_a_libvirtd_that_is_down_when_a_copy_is_to_be_ended_is_waited_for(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd, there: DiskInDomain
) -> None:
    target, slow = to(own_lab.device(LARGE_BYTES)), Copy(bandwidth_bytes_s=SLOW)
    with background(lambda: own_lab.domains.mirror(there, target, slow.task, soon())) as under_way:
        wait_for(lambda: bool(slow.reports), 20)
        private_libvirtd.kill()
        slow.task.interrupt.set(Cancelled("by a test"))
        private_libvirtd.start()
        with pytest.raises(Cancelled):
            under_way.result(60)
    with pytest.raises(BlockJobFailed):
        own_lab.domains.pivot(there, target, soon())


def test_the_agents_stop_waits_for_no_hung_qemu(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd, there: DiskInDomain
) -> None:
    target, slow = to(own_lab.device(LARGE_BYTES)), Copy(bandwidth_bytes_s=SLOW)
    with background(lambda: own_lab.domains.mirror(there, target, slow.task, soon())) as under_way:
        wait_for(lambda: bool(slow.reports), 20)
        with hung_qemu(private_libvirtd, there.domain):
            with pytest.raises(TimeoutError):
                under_way.result(2)  # a look hangs in it by now
            slow.task.interrupt.set(AgentStopping())
            with pytest.raises(AgentStopping):
                under_way.result(5)
    own_lab.domains.mirror(there, target, copy(), soon())


def test_a_copy_that_cannot_be_ended_is_not_called_cancelled(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd, there: DiskInDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "END_S", 2)
    target, slow = to(own_lab.device(LARGE_BYTES)), Copy(bandwidth_bytes_s=SLOW)
    with background(lambda: own_lab.domains.mirror(there, target, slow.task, soon())) as under_way:
        wait_for(lambda: bool(slow.reports), 20)
        with hung_qemu(private_libvirtd, there.domain):
            slow.task.interrupt.set(Cancelled("by a test"))
            with pytest.raises((LibvirtTimeout, VmBusy), match=r"by a test; .* could not be ended"):
                under_way.result(30)
    own_lab.domains.end_mirror(there.domain.uuid, target.path, soon())
    own_lab.domains.mirror(there, to(own_lab.device(LARGE_BYTES)), copy(), soon())


def test_a_pivot_whose_answer_is_lost_is_read_back(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd, there: DiskInDomain
) -> None:
    target = to(own_lab.device(LARGE_BYTES))
    own_lab.domains.mirror(there, target, copy(), soon())
    with background(lambda: own_lab.domains.pivot(there, target, Deadline.after(60))) as pivoting:
        private_libvirtd.kill()
        private_libvirtd.start()
        assert pivoting.result(60) == replace(there, path=target.path)


def test_a_configuration_that_could_not_be_written_is_finished_by_the_next_pivot(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd, vm: Domain
) -> None:
    old, target = own_lab.device(), to(own_lab.device())
    own_lab.domains.plug(vm, replace(disk(old), config=False), soon())
    there = own_lab.domains.plug(vm, disk(own_lab.other_path(old)), soon())
    own_lab.domains.mirror(there, target, copy(), soon())
    with unwritable(private_libvirtd.root / "etc" / "qemu"), pytest.raises(LibvirtRefused):
        own_lab.domains.pivot(there, target, soon())
    assert [(one.live, one.config) for one in own_lab.domains.having([target.path], soon())] == [(True, False)]
    assert own_lab.domains.pivot(there, target, soon()) == replace(there, path=target.path)


def test_a_copy_whose_beginning_hangs_is_never_left_behind(
    own_lab: RealLab, private_libvirtd: PrivateLibvirtd, there: DiskInDomain
) -> None:
    target, slow = to(own_lab.device(LARGE_BYTES)), Copy(bandwidth_bytes_s=SLOW)
    with hung_qemu(private_libvirtd, there.domain):
        with background(lambda: own_lab.domains.mirror(there, target, slow.task, Deadline.after(40))) as under_way:
            with pytest.raises(TimeoutError):
                under_way.result(1)
            slow.task.interrupt.set(Cancelled("by a test"))
            os.kill(qemu_pid(private_libvirtd, there.domain), signal.SIGCONT)
            with pytest.raises(Cancelled):
                under_way.result(60)
    with pytest.raises(BlockJobFailed):
        own_lab.domains.pivot(there, target, soon())
    own_lab.domains.mirror(there, to(own_lab.device(LARGE_BYTES)), copy(), soon())


def qemu_pid(libvirtd: PrivateLibvirtd, vm: Domain) -> int:
    return int((libvirtd.root / "run" / "qemu" / f"{vm.name}.pid").read_text())


@contextmanager
def hung_qemu(libvirtd: PrivateLibvirtd, vm: Domain) -> Generator[None]:
    pid = qemu_pid(libvirtd, vm)
    stop(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
