# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a handler may rely on of virtual machines, held against the fake ones and against libvirt's."""

from dataclasses import replace
from time import monotonic, sleep
from typing import Protocol
from uuid import uuid4

import pytest
from pydantic import SecretBytes

from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Disk, DiskInDomain, Domain, MirrorTarget, Platform, Presence, secret_uuid
from storpool_agent.errors import (
    AgentError,
    BlockJobFailed,
    Cancelled,
    DiskConflict,
    DiskInUseByVm,
    DiskNotFound,
    GuestAgentUnavailable,
    GuestNotFrozen,
    GuestNotNotified,
    InvalidCommand,
    LibvirtRefused,
    NoHotplugSlot,
    SizeChanged,
    TargetTaken,
    UnplugPending,
    VmBusy,
    VmNotFound,
    VmNotRunning,
    WouldShrink,
)
from storpool_agent.host import Domains
from storpool_agent.interrupt import AgentStopping, Interrupt
from storpool_agent.migration_errors import DestinationUnreachable, MigrationUnknown
from storpool_agent.task import Task
from storpool_commands.disks import IoTune

MIB = 1024 * 1024
DEVICE_BYTES = 8 * MIB
LARGE_BYTES = 64 * MIB  # QEMU's limit of bandwidth lets the first 16 MiB pass
NOBODY = "7a3ba8f7-7f28-4f1c-8c66-b0e3a0b0f8c1"
NEWS_TIMEOUT_S = 10.0
ENCRYPTED, PASSPHRASE = f"d.n.z{uuid4().hex[:8]}", b"correct horse"
"""A global id that no volume has, and what opens it. All tests of a machine share libvirt's secrets."""
NO_LIMITS = dict.fromkeys(IoTune.model_fields, 0)


class Lab(Protocol):
    """A host whose machines and devices a test may do anything with."""

    domains: Domains
    told: list[str | None]
    """What the callback of `on_disks_changed` was told."""

    def machine(
        self, *, running: bool = True, persistent: bool = True, answers: bool = False, slots: int = 4
    ) -> Domain:
        """One without a SCSI controller. Its guest answers unplug requests if it is said to."""
        ...

    def guest_with_agent(self, *, file_system: bool = True) -> Domain:
        """One whose guest runs an agent and has mounted nothing but, if it is to, a file system."""
        ...

    def stop_agent(self, machine: Domain) -> None: ...
    def device(self, size_bytes: int = DEVICE_BYTES) -> str:
        """The path of a device."""
        ...

    def encrypted(self, passphrase: bytes) -> str:
        """The path of a device with a LUKS header."""
        ...

    def other_path(self, device: str) -> str:
        """Another path of the same device."""
        ...

    def grow(self, device: str, size_bytes: int) -> None: ...
    def silence(self, machine: Domain) -> None:
        """From now on its guest does not answer."""
        ...

    def wake(self, machine: Domain) -> None:
        """The guest answers what it was asked meanwhile."""
        ...

    def end(self, machine: Domain) -> None:
        """Pull the plug. A transient machine is gone with that."""
        ...


def soon() -> Deadline:
    return Deadline.after(30)


def disk(path: str, alias: str = "ua-one") -> Disk:
    return Disk(
        path=path,
        serial="serial-1",
        alias=alias,
        bus="virtio",
        mode="rw",
        cache="none",
        io="native",
        discard="unmap",
        live=True,
        config=True,
    )


def to(path: str) -> MirrorTarget:
    return MirrorTarget(path, "raw", device=True)


class Copy:
    """A task, and what was reported of it. At the first report it is interrupted by `why`, if that is given."""

    def __init__(self, why: Exception | None = None, bandwidth_bytes_s: int | None = None) -> None:
        self.why = why
        self.reports: list[tuple[int, int | None]] = []
        self.task = Task(Interrupt(), self._report, bandwidth_bytes_s, stall_timeout_s=30)

    def _report(self, done: int, total: int | None) -> None:
        self.reports.append((done, total))
        if self.why is not None:
            self.task.interrupt.set(self.why)


def copy() -> Task:
    return Copy().task


def copy_stopped_by(why: Exception) -> Task:
    """Slow enough to be stopped on its way, for a disk of LARGE_BYTES."""
    return Copy(why, MIB).task


class DomainsContract:
    """Subclass it with a fixture `lab`."""

    def test_a_machine_is_found_by_uuid_and_by_name(self, lab: Lab) -> None:
        machine = lab.machine()
        assert lab.domains.find(machine.uuid, soon()) == machine
        assert lab.domains.find(machine.name, soon()) == machine
        assert (machine.running, machine.persistent) == (True, True)

    def test_a_stopped_and_a_transient_machine_are_known_as_such(self, lab: Lab) -> None:
        stopped, transient = lab.machine(running=False), lab.machine(persistent=False)
        assert (stopped.running, stopped.persistent) == (False, True)
        assert (transient.running, transient.persistent) == (True, False)

    @pytest.mark.parametrize("vm", [NOBODY, "nobody"])
    def test_an_unknown_machine_is_refused_with_its_name(self, lab: Lab, vm: str) -> None:
        with pytest.raises(VmNotFound) as refusal:
            lab.domains.find(vm, soon())
        assert refusal.value.facts == {"vm": vm}

    def test_a_plugged_disk_is_in_the_machine_and_in_its_configuration(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        assert (plugged.domain, plugged.path, plugged.bus, plugged.mode) == (machine, device, "virtio", "rw")
        assert (plugged.live, plugged.config) == (True, True)
        assert (plugged.target, plugged.alias, plugged.serial) == ("vda", "ua-one", "serial-1")
        assert (plugged.address or "").startswith("pci:0000:")
        assert lab.domains.having([device], soon()) == [plugged]

    def test_a_disk_is_found_by_any_path_of_its_device(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        assert lab.domains.having([lab.other_path(device)], soon()) == [plugged]
        assert lab.domains.having([lab.device()], soon()) == []

    def test_plugging_it_again_changes_nothing(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        first = lab.domains.plug(machine, disk(device), soon())
        assert lab.domains.plug(machine, disk(device), soon()) == first
        assert lab.domains.plug(machine, disk(lab.other_path(device)), soon()) == first

    def test_the_half_that_is_missing_is_added_at_the_same_target(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        lab.domains.plug(machine, replace(disk(device), live=False, target="vdc"), soon())
        whole = lab.domains.plug(machine, disk(device), soon())
        assert (whole.target, whole.live, whole.config) == ("vdc", True, True)

    @pytest.mark.parametrize(
        "other", [{"mode": "ro"}, {"bus": "scsi"}, {"target": "vdz"}], ids=["mode", "bus", "target"]
    )
    def test_having_it_otherwise_is_a_conflict(self, lab: Lab, other: dict[str, str]) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        with pytest.raises(DiskConflict):
            lab.domains.plug(machine, replace(disk(device), **other), soon())  # type: ignore[arg-type]
        assert lab.domains.having([device], soon()) == [plugged]

    def test_a_disk_of_another_machine_is_refused_with_that_machine(self, lab: Lab) -> None:
        device, holder, machine = lab.device(), lab.machine(running=False), lab.machine()
        lab.domains.plug(holder, replace(disk(device), live=False), soon())
        with pytest.raises(DiskInUseByVm) as refusal:
            lab.domains.plug(machine, disk(lab.other_path(device)), soon())
        assert refusal.value.facts == {"vm": holder.uuid, "name": holder.name, "target": "vda"}

    def test_a_target_that_is_taken_now_or_at_the_next_start_is_refused(self, lab: Lab) -> None:
        machine = lab.machine()
        lab.domains.plug(machine, replace(disk(lab.device(), "ua-live"), config=False, target="vda"), soon())
        lab.domains.plug(machine, replace(disk(lab.device(), "ua-config"), live=False, target="vdb"), soon())
        for taken in ("vda", "vdb"):
            with pytest.raises(TargetTaken) as refusal:
                lab.domains.plug(machine, replace(disk(lab.device()), target=taken), soon())
            assert refusal.value.facts == {"vm": machine.uuid, "target": taken}
        assert lab.domains.plug(machine, disk(lab.device()), soon()).target == "vdc"

    def test_without_a_free_slot_nothing_is_changed(self, lab: Lab) -> None:
        machine, device = lab.machine(slots=1), lab.device()
        lab.domains.plug(machine, disk(lab.device(), "ua-first"), soon())
        with pytest.raises(NoHotplugSlot):
            lab.domains.plug(machine, disk(device), soon())
        assert lab.domains.having([device], soon()) == []

    def test_a_scsi_disk_needs_a_controller(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        with pytest.raises(NoHotplugSlot):
            lab.domains.plug(machine, replace(disk(device), bus="scsi"), soon())
        assert lab.domains.having([device], soon()) == []

    def test_a_stopped_machine_takes_a_disk_into_its_configuration_only(self, lab: Lab) -> None:
        machine, device = lab.machine(running=False), lab.device()
        with pytest.raises(VmNotRunning):
            lab.domains.plug(machine, disk(device), soon())
        plugged = lab.domains.plug(machine, replace(disk(device), live=False), soon())
        assert (plugged.live, plugged.config) == (False, True)
        lab.domains.unplug(machine, plugged, 0, soon())
        assert lab.domains.having([device], soon()) == []

    def test_a_transient_machine_has_no_configuration_to_change(self, lab: Lab) -> None:
        machine, device = lab.machine(persistent=False), lab.device()
        with pytest.raises(LibvirtRefused):
            lab.domains.plug(machine, disk(device), soon())
        plugged = lab.domains.plug(machine, replace(disk(device), config=False), soon())
        assert (plugged.live, plugged.config) == (True, False)

    def test_a_machine_that_is_gone_takes_no_disk(self, lab: Lab) -> None:
        with pytest.raises(VmNotFound):
            lab.domains.plug(Domain(NOBODY, "nobody", True, True), disk(lab.device()), soon())

    def test_an_unplugged_disk_is_gone_from_both(self, lab: Lab) -> None:
        machine, device = lab.machine(answers=True), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        lab.domains.unplug(machine, plugged, 20, soon())
        assert lab.domains.having([device], soon()) == []
        self._wait_until_told(lab, machine.uuid)

    def test_unplugging_what_is_gone_is_a_success(self, lab: Lab) -> None:
        machine, device = lab.machine(answers=True), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        lab.domains.unplug(machine, plugged, 20, soon())
        lab.domains.unplug(machine, plugged, 20, soon())
        lab.end(machine)
        lab.domains.unplug(machine, plugged, 20, soon())

    def test_a_silent_guest_leaves_the_unplug_pending_and_may_let_go_later(self, lab: Lab) -> None:
        machine, device = lab.machine(answers=True), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        lab.silence(machine)
        with pytest.raises(UnplugPending) as pending:
            lab.domains.unplug(machine, plugged, 0.5, soon())
        assert pending.value.facts == {"vm": machine.uuid, "target": "vda", "alias": "ua-one"}
        assert self._halves(lab, device) == [(True, False)]
        lab.told.clear()
        lab.wake(machine)
        self._wait_until_told(lab, machine.uuid)
        assert lab.domains.having([device], soon()) == []

    def test_a_pending_unplug_may_be_asked_for_again(self, lab: Lab) -> None:
        machine, device = lab.machine(answers=True), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        lab.silence(machine)
        for _ in range(2):
            with pytest.raises(UnplugPending):
                lab.domains.unplug(machine, plugged, 0.1, soon())
        lab.wake(machine)
        lab.domains.unplug(machine, plugged, 20, soon())
        assert lab.domains.having([device], soon()) == []

    def test_a_machine_that_is_switched_off_has_let_go(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        with pytest.raises(UnplugPending):
            lab.domains.unplug(machine, plugged, 0, soon())
        lab.told.clear()
        lab.end(machine)
        self._wait_until_told(lab, machine.uuid)
        lab.domains.unplug(machine, plugged, 0, soon())
        assert lab.domains.having([device], soon()) == []

    def test_a_transient_machine_that_ends_is_gone(self, lab: Lab) -> None:
        machine, device = lab.machine(persistent=False), lab.device()
        plugged = lab.domains.plug(machine, replace(disk(device), config=False), soon())
        lab.end(machine)
        lab.domains.unplug(machine, plugged, 0, soon())
        with pytest.raises(VmNotFound):
            lab.domains.find(machine.uuid, soon())

    def test_a_running_machine_is_told_of_a_new_size(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        lab.grow(device, 2 * DEVICE_BYTES)
        assert lab.domains.resize(plugged, 2 * DEVICE_BYTES, soon()) == 2 * DEVICE_BYTES
        assert lab.domains.resize(plugged, 2 * DEVICE_BYTES, soon()) == 2 * DEVICE_BYTES

    def test_a_size_that_the_device_has_not_yet_is_refused(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        with pytest.raises(GuestNotNotified):
            lab.domains.resize(plugged, 2 * DEVICE_BYTES, soon())

    def test_a_stopped_machine_is_told_nothing(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        lab.end(machine)
        with pytest.raises(VmNotRunning):
            lab.domains.resize(plugged, DEVICE_BYTES, soon())
        assert self._halves(lab, device) == [(False, True)]

    def test_a_machine_is_described_as_another_host_has_to_have_it(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        seen = lab.domains.portray(machine.name, soon())
        assert (seen.domain, seen.paused, seen.arch, seen.domain_type) == (machine, False, "x86_64", "qemu")
        assert seen.memory_bytes > 0
        assert seen.cpu is not None
        assert seen.cpu.startswith("<cpu")
        [found] = [one for one in seen.disks if one.path == device]
        assert (found.target, found.mode, found.cache, found.encrypted) == (plugged.target, "rw", "none", False)
        lab.domains.refuse_misfit(Platform("qemu", seen.arch, seen.machine_type, seen.cpu), soon())
        with pytest.raises(VmNotFound):
            lab.domains.portray(NOBODY, soon())

    def test_how_a_machine_stands(self, lab: Lab) -> None:
        running, off = lab.machine(), lab.machine(running=False)
        seen = lab.domains.standing(running.uuid, soon())
        assert (seen.standing, seen.active) == ("running", True)
        assert lab.domains.standing(off.uuid, soon()).standing == "off"
        assert lab.domains.standing(NOBODY, soon()) == Presence("absent")

    def test_a_machine_that_runs_is_not_removed_and_needs_no_resume(self, lab: Lab) -> None:
        machine = lab.machine()
        lab.domains.resume(machine.uuid, soon())
        with pytest.raises(MigrationUnknown):
            lab.domains.remove(machine.uuid, soon())
        assert lab.domains.standing(machine.uuid, soon()).standing == "running"

    def test_a_host_that_nobody_has_named_cannot_be_asked(self, lab: Lab) -> None:
        machine = lab.machine()
        with pytest.raises(DestinationUnreachable):
            lab.domains.standing(machine.uuid, soon(), peer="nowhere")

    def test_disks_are_found_by_the_directory_they_are_in(self, lab: Lab) -> None:
        machine, devices = lab.machine(), [lab.device(), lab.device()]
        directories = [device.rpartition("/")[0] for device in devices]
        assert lab.domains.below(directories, soon()) == []
        whole = lab.domains.plug(machine, disk(devices[0]), soon())
        configured = lab.domains.plug(machine, replace(disk(devices[1], "ua-two"), live=False), soon())
        found = lab.domains.below([directories[0], f"{directories[1]}/"], soon())
        assert sorted(found, key=lambda one: one.target) == [whole, configured]
        assert lab.domains.below([directories[0][:-1], "/elsewhere/"], soon()) == []

    def test_limits_that_are_not_named_stay(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        first = lab.domains.tune(machine, plugged, IoTune(read_iops_sec=100, total_bytes_sec=1 << 20), soon())
        assert first == IoTune(**NO_LIMITS | {"read_iops_sec": 100, "total_bytes_sec": 1 << 20})
        second = lab.domains.tune(machine, plugged, IoTune(write_iops_sec=50), soon())
        assert second == IoTune(**NO_LIMITS | {"read_iops_sec": 100, "write_iops_sec": 50, "total_bytes_sec": 1 << 20})
        third = lab.domains.tune(machine, plugged, IoTune(total_bytes_sec=0), soon())
        assert third == IoTune(**NO_LIMITS | {"read_iops_sec": 100, "write_iops_sec": 50})

    def test_limits_outlive_the_run_of_the_machine(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        lab.domains.tune(machine, plugged, IoTune(read_iops_sec=100), soon())
        lab.end(machine)
        [left] = lab.domains.having([device], soon())
        found = lab.domains.tune(machine, left, IoTune(write_iops_sec=50), soon())
        assert found == IoTune(**NO_LIMITS | {"read_iops_sec": 100, "write_iops_sec": 50})

    def test_a_transient_machine_has_limits_too(self, lab: Lab) -> None:
        machine, device = lab.machine(persistent=False), lab.device()
        plugged = lab.domains.plug(machine, replace(disk(device), config=False), soon())
        assert lab.domains.tune(machine, plugged, IoTune(total_iops_sec=7), soon()).total_iops_sec == 7

    def test_limits_that_contradict_those_that_are_set_change_nothing(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        lab.domains.tune(machine, plugged, IoTune(total_iops_sec=100), soon())
        with pytest.raises(InvalidCommand):
            lab.domains.tune(machine, plugged, IoTune(read_iops_sec=50, total_bytes_sec=1), soon())
        found = lab.domains.tune(machine, plugged, IoTune(write_bytes_sec=9), soon())
        assert found == IoTune(**NO_LIMITS | {"total_iops_sec": 100, "write_bytes_sec": 9})

    def test_a_disk_that_is_gone_has_no_limits(self, lab: Lab) -> None:
        machine, device = lab.machine(running=False), lab.device()
        plugged = lab.domains.plug(machine, replace(disk(device), live=False), soon())
        lab.domains.unplug(machine, plugged, 0, soon())
        with pytest.raises(DiskNotFound):
            lab.domains.tune(machine, plugged, IoTune(total_iops_sec=7), soon())

    def test_a_guest_is_frozen_until_it_is_thawed(self, lab: Lab) -> None:
        machine = lab.guest_with_agent()
        assert lab.domains.thaw(machine, soon()) is False
        for _ in range(2):
            lab.domains.freeze(machine, soon())
        assert lab.domains.thaw(machine, soon()) is True
        assert lab.domains.thaw(machine, soon()) is False

    def test_a_machine_without_an_agent_is_not_frozen(self, lab: Lab) -> None:
        machine = lab.machine()
        for call in (lab.domains.freeze, lab.domains.thaw):
            with pytest.raises(GuestAgentUnavailable):
                call(machine, soon())

    def test_a_guest_whose_agent_is_gone_is_not_frozen(self, lab: Lab) -> None:
        machine = lab.guest_with_agent()
        lab.stop_agent(machine)
        for call in (lab.domains.freeze, lab.domains.thaw):
            with pytest.raises(GuestAgentUnavailable):
                call(machine, soon())

    def test_a_guest_without_a_file_system_is_not_called_frozen(self, lab: Lab) -> None:
        machine = lab.guest_with_agent(file_system=False)
        with pytest.raises(GuestNotFrozen):
            lab.domains.freeze(machine, soon())
        assert lab.domains.thaw(machine, soon()) is False

    def test_a_machine_that_is_off_or_gone_is_not_frozen(self, lab: Lab) -> None:
        machine = lab.machine(running=False)
        with pytest.raises(VmNotRunning):
            lab.domains.freeze(machine, soon())
        assert lab.domains.thaw(machine, soon()) is False
        nobody = Domain(NOBODY, "nobody", True, True)
        with pytest.raises(VmNotFound):
            lab.domains.freeze(nobody, soon())
        assert lab.domains.thaw(nobody, soon()) is False

    def test_a_mirrored_and_pivoted_disk_is_the_target_and_all_else_is_as_before(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(), lab.device()
        plugged = lab.domains.plug(machine, disk(old), soon())
        mirrored = Copy()
        lab.domains.mirror(plugged, to(new), mirrored.task, soon())
        assert mirrored.reports[-1][0] == mirrored.reports[-1][1]
        assert lab.domains.having([old], soon()) == [plugged]
        moved = lab.domains.pivot(plugged, to(new), soon())
        assert moved == replace(plugged, path=new)
        assert list(lab.domains.having([old, new], soon())) == [moved]

    def test_what_is_done_already_is_a_success(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(), lab.device()
        plugged = lab.domains.plug(machine, disk(old), soon())
        for _ in range(2):
            lab.domains.mirror(plugged, to(new), copy(), soon())
        moved = lab.domains.pivot(plugged, to(new), soon())
        lab.domains.mirror(plugged, to(new), copy(), soon())
        assert lab.domains.pivot(plugged, to(new), soon()) == moved

    def test_a_disk_that_is_looked_at_where_it_is_to_go_has_moved(self, lab: Lab) -> None:
        """As whoever comes after a crash finds it."""
        machine, old, new = lab.machine(), lab.device(), lab.device()
        plugged = lab.domains.plug(machine, disk(old), soon())
        lab.domains.mirror(plugged, to(new), copy(), soon())
        moved = lab.domains.pivot(plugged, to(new), soon())
        assert lab.domains.pivot(moved, to(new), soon()) == moved

    def test_a_disk_can_go_back_where_it_came_from(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(), lab.device()
        there = lab.domains.plug(machine, disk(old), soon())
        for path in (new, old):
            lab.domains.mirror(there, to(path), copy(), soon())
            there = lab.domains.pivot(there, to(path), soon())
        assert list(lab.domains.having([old, new], soon())) == [there]

    def test_a_configuration_that_names_the_disk_by_another_path_moves_too(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(), lab.device()
        lab.domains.plug(machine, replace(disk(old), config=False), soon())
        plugged = lab.domains.plug(machine, disk(lab.other_path(old)), soon())
        assert (plugged.path, plugged.live, plugged.config) == (old, True, True)
        lab.domains.mirror(plugged, to(new), copy(), soon())
        assert lab.domains.pivot(plugged, to(new), soon()) == replace(plugged, path=new)
        assert lab.domains.having([old], soon()) == []

    def test_a_transient_machine_moves_too(self, lab: Lab) -> None:
        machine, old, new = lab.machine(persistent=False), lab.device(), lab.device()
        plugged = lab.domains.plug(machine, replace(disk(old), config=False), soon())
        lab.domains.mirror(plugged, to(new), copy(), soon())
        assert lab.domains.pivot(plugged, to(new), soon()) == replace(plugged, path=new)

    def test_a_copy_that_is_cancelled_on_its_way_leaves_the_disk_as_it_was(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(LARGE_BYTES), lab.device(LARGE_BYTES)
        plugged = lab.domains.plug(machine, disk(old), soon())
        with pytest.raises(Cancelled):
            lab.domains.mirror(plugged, to(new), copy_stopped_by(Cancelled("by a test")), soon())
        with pytest.raises(BlockJobFailed):
            lab.domains.pivot(plugged, to(new), soon())
        assert lab.domains.having([old, new], soon()) == [plugged]
        lab.domains.mirror(plugged, to(lab.device(LARGE_BYTES)), copy(), soon())

    def test_a_copy_that_is_cancelled_before_is_not_begun(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(), lab.device()
        plugged = lab.domains.plug(machine, disk(old), soon())
        task = copy()
        task.interrupt.set(Cancelled("by a test"))
        with pytest.raises(Cancelled):
            lab.domains.mirror(plugged, to(new), task, soon())
        with pytest.raises(BlockJobFailed):
            lab.domains.pivot(plugged, to(new), soon())

    def test_a_copy_survives_the_agents_stop_and_is_gone_on_with(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(LARGE_BYTES), lab.device(LARGE_BYTES)
        plugged = lab.domains.plug(machine, disk(old), soon())
        with pytest.raises(AgentStopping):
            lab.domains.mirror(plugged, to(new), copy_stopped_by(AgentStopping()), soon())
        with pytest.raises(BlockJobFailed):
            lab.domains.pivot(plugged, to(new), soon())
        with pytest.raises(DiskConflict):
            lab.domains.mirror(plugged, to(lab.device(LARGE_BYTES)), copy(), soon())
        with pytest.raises(VmBusy):
            lab.domains.unplug(machine, plugged, 0, soon())
        with pytest.raises(Cancelled):
            lab.domains.mirror(plugged, to(new), copy_stopped_by(Cancelled("by a test")), soon())
        lab.domains.mirror(plugged, to(new), copy(), soon())
        assert lab.domains.pivot(plugged, to(new), soon()).path == new

    def test_a_copy_that_was_left_is_ended(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(LARGE_BYTES), lab.device(LARGE_BYTES)
        plugged = lab.domains.plug(machine, disk(old), soon())
        with pytest.raises(AgentStopping):
            lab.domains.mirror(plugged, to(new), copy_stopped_by(AgentStopping()), soon())
        lab.domains.end_mirror(machine.uuid, lab.device(), soon())
        with pytest.raises(DiskConflict):
            lab.domains.mirror(plugged, to(lab.device(LARGE_BYTES)), copy(), soon())
        for _ in range(2):
            lab.domains.end_mirror(machine.uuid, new, soon())
        lab.domains.mirror(plugged, to(lab.device(LARGE_BYTES)), copy(), soon())

    def test_ending_no_copy_is_a_success(self, lab: Lab) -> None:
        machine, stopped = lab.machine(), lab.machine(running=False)
        for uuid in (machine.uuid, stopped.uuid, NOBODY):
            lab.domains.end_mirror(uuid, "/dev/storpool/nothing", soon())

    def test_what_a_machine_has_moved_to_is_no_copy_to_be_ended(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(), lab.device()
        plugged = lab.domains.plug(machine, disk(old), soon())
        lab.domains.mirror(plugged, to(new), copy(), soon())
        moved = lab.domains.pivot(plugged, to(new), soon())
        with pytest.raises(DiskInUseByVm):
            lab.domains.end_mirror(machine.uuid, new, soon())
        assert lab.domains.having([new], soon()) == [moved]

    def test_a_copy_ends_with_its_machine(self, lab: Lab) -> None:
        machine, old, new = lab.machine(), lab.device(), lab.device()
        plugged = lab.domains.plug(machine, disk(old), soon())
        lab.domains.mirror(plugged, to(new), copy(), soon())
        lab.end(machine)
        with pytest.raises(VmNotRunning):
            lab.domains.pivot(plugged, to(new), soon())
        with pytest.raises(VmNotRunning):
            lab.domains.mirror(plugged, to(new), copy(), soon())
        with pytest.raises(VmNotRunning):
            lab.domains.capacity(plugged, soon())
        lab.domains.end_mirror(machine.uuid, new, soon())
        assert self._halves(lab, old) == [(False, True)]

    def test_a_machine_that_is_gone_copies_nothing(self, lab: Lab) -> None:
        nobody = DiskInDomain(Domain(NOBODY, "nobody", True, True), "/a", "vda", "virtio", True, True, None, None, None)
        with pytest.raises(VmNotFound):
            lab.domains.mirror(nobody, to(lab.device()), copy(), soon())
        with pytest.raises(VmNotFound):
            lab.domains.pivot(nobody, to(lab.device()), soon())
        with pytest.raises(VmNotFound):
            lab.domains.capacity(nobody, soon())

    def test_another_disk_at_that_target_is_not_copied(self, lab: Lab) -> None:
        machine, new = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(lab.device()), soon())
        for other in (replace(plugged, path=lab.device()), replace(plugged, target="vdb")):
            with pytest.raises(DiskConflict):
                lab.domains.mirror(other, to(new), copy(), soon())
            with pytest.raises(DiskConflict):
                lab.domains.pivot(other, to(new), soon())
            with pytest.raises(DiskConflict):
                lab.domains.capacity(other, soon())

    def test_a_target_that_a_machine_has_is_not_written_to(self, lab: Lab) -> None:
        machine, holder, old, taken = lab.machine(), lab.machine(running=False), lab.device(), lab.device()
        plugged = lab.domains.plug(machine, disk(old), soon())
        lab.domains.plug(holder, replace(disk(taken), live=False), soon())
        for path in (taken, lab.other_path(taken), lab.other_path(old)):
            with pytest.raises(DiskInUseByVm):
                lab.domains.mirror(plugged, to(path), copy(), soon())

    @pytest.mark.parametrize(
        ("size_bytes", "refusal"),
        [(DEVICE_BYTES // 2, WouldShrink), (DEVICE_BYTES * 2, SizeChanged)],
        ids=["smaller", "larger"],
    )
    def test_a_target_of_another_size_is_refused_before_anything(
        self, lab: Lab, size_bytes: int, refusal: type[AgentError]
    ) -> None:
        machine, new = lab.machine(), lab.device(size_bytes)
        plugged = lab.domains.plug(machine, disk(lab.device()), soon())
        with pytest.raises(refusal):
            lab.domains.mirror(plugged, to(new), copy(), soon())
        with pytest.raises(BlockJobFailed):
            lab.domains.pivot(plugged, to(new), soon())

    def test_the_capacity_is_what_the_guest_has_been_told(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.device()
        plugged = lab.domains.plug(machine, disk(device), soon())
        assert lab.domains.capacity(plugged, soon()) == DEVICE_BYTES
        lab.grow(device, 2 * DEVICE_BYTES)
        lab.domains.resize(plugged, 2 * DEVICE_BYTES, soon())
        assert lab.domains.capacity(plugged, soon()) == 2 * DEVICE_BYTES

    def test_an_encrypted_disk_is_plugged_with_its_secret_and_known_as_one(self, lab: Lab) -> None:
        machine, device = lab.machine(), lab.encrypted(PASSPHRASE)
        wanted = replace(disk(device), secret=secret_uuid(ENCRYPTED))
        with pytest.raises(LibvirtRefused):
            lab.domains.plug(machine, wanted, soon())
        lab.domains.set_secret(ENCRYPTED, device, SecretBytes(PASSPHRASE), soon())
        try:
            plugged = lab.domains.plug(machine, wanted, soon())
            assert (plugged.secret, plugged.live, plugged.config) == (secret_uuid(ENCRYPTED), True, True)
            [found] = lab.domains.having([device], soon())
            assert found.secret == secret_uuid(ENCRYPTED)
            lab.domains.set_secret(ENCRYPTED, device, SecretBytes(PASSPHRASE), soon())
            assert lab.domains.plug(machine, wanted, soon()) == plugged
            with pytest.raises(DiskConflict):
                lab.domains.plug(machine, disk(device), soon())
        finally:
            lab.domains.forget_secret(ENCRYPTED, soon())
        lab.domains.forget_secret(ENCRYPTED, soon())

    def test_a_disk_that_is_not_encrypted_has_no_secret(self, lab: Lab) -> None:
        assert lab.domains.plug(lab.machine(), disk(lab.device()), soon()).secret is None

    def test_a_secret_moves_with_the_path_of_its_volume(self, lab: Lab) -> None:
        """A host whose device root was changed; libvirt itself changes the usage of no secret."""
        for path in ("/dev/storpool-byid/d.n.zzy", "/elsewhere/storpool-byid/d.n.zzy"):
            lab.domains.set_secret(ENCRYPTED, path, SecretBytes(PASSPHRASE), soon())
        lab.domains.forget_secret(ENCRYPTED, soon())

    def test_libvirt_and_qemu_say_their_versions(self, lab: Lab) -> None:
        for version in lab.domains.versions(soon()):
            assert [part.isdecimal() for part in version.split(".")] == [True] * 3

    def _halves(self, lab: Lab, device: str) -> list[tuple[bool, bool]]:
        found: list[DiskInDomain] = list(lab.domains.having([device], soon()))
        return [(there.live, there.config) for there in found]

    def _wait_until_told(self, lab: Lab, uuid: str) -> None:
        give_up = monotonic() + NEWS_TIMEOUT_S
        while uuid not in lab.told:
            assert monotonic() < give_up, f"told of {lab.told}, not of {uuid}"
            sleep(0.02)
