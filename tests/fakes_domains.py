# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Virtual machines that are a few dictionaries, and obey the rules of libvirt's.

`domains_contract` runs on these and on real ones. No time passes here: a guest answers at once or not at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from string import ascii_lowercase
from uuid import uuid4

from pydantic import SecretBytes

from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import (
    Disk,
    DiskInDomain,
    Domain,
    MachineDisk,
    MirrorTarget,
    Passage,
    Platform,
    Portrait,
    Presence,
    Sent,
    Standing,
    secret_uuid,
)
from storpool_agent.errors import (
    AgentError,
    BlockJobFailed,
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
    UnplugRejected,
    VmBusy,
    VmNotFound,
    VmNotRunning,
    WouldShrink,
)
from storpool_agent.interrupt import AgentStopping
from storpool_agent.migration_errors import CpuIncompatible, DestinationUnreachable, MigrationFailed, MigrationUnknown
from storpool_agent.task import Task
from storpool_commands.disks import IoTune


@dataclass
class FakeMirror:
    """A copy of a live disk. `ready`: both are the same, and get the same writes."""

    to: MirrorTarget
    ready: bool = False


@dataclass
class FakeMachine:
    """Change it as a machine changes by itself; what the agent does to it goes through FakeDomains."""

    name: str
    uuid: str = field(default_factory=lambda: str(uuid4()))
    running: bool = True
    persistent: bool = True
    slots: int = 4
    """Free slots for hot-plugged virtio disks."""
    scsi: bool = False
    """It has a SCSI controller."""
    answers: bool = True
    """The guest lets go of a disk when it is asked to."""
    refuses: bool = False
    """The guest says no when it is asked to."""
    live: dict[str, Disk] = field(default_factory=dict)
    """By target."""
    config: dict[str, Disk] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    """Targets whose unplug is pending."""
    sizes: dict[str, int] = field(default_factory=dict)
    """What QEMU reports, by target, for those that were resized."""
    guest_agent: bool = False
    """The guest runs qemu-guest-agent."""
    freezable: bool = True
    """The guest's agent can freeze its file systems."""
    mirrors: dict[str, "FakeMirror"] = field(default_factory=dict)
    """Copies of disks that are under way, by the disk's target."""
    cpu: str | None = "<cpu mode='custom'/>"
    memory_bytes: int = 1 << 30
    standing: Standing | None = None
    """How it stands when that is not simply running or off: see Presence."""
    by_migration: bool = False
    """It stands still because its memory was sent."""
    frozen: bool = False
    """The guest writes nothing, until it is thawed or the machine ends."""

    @property
    def domain(self) -> Domain:
        return Domain(self.uuid, self.name, self.running, self.persistent)


@dataclass
class FakePassage:
    """A machine while it is sent."""

    machine: FakeMachine
    source: "FakeDomains"
    there: "FakeDomains"
    task: Task

    def arrive(self, standing: Standing = "paused") -> FakeMachine:
        """As libvirt leaves it there: all of it, standing still."""
        come = replace(self.machine, standing=standing, by_migration=False)
        come.live, come.config = dict(self.machine.live), dict(self.machine.config)
        self.there.machines[come.uuid] = come
        return come

    def leave(self) -> None:
        del self.source.machines[self.machine.uuid]

    def stand_still(self) -> None:
        """What libvirtd, killed after all was sent, finds when it is back."""
        self.machine.standing, self.machine.by_migration = "paused", True


class FakeDomains:
    """Fill `machines` by `add`; `fail` makes calls fail, `sizes` and `links` say what the host's devices are."""

    def __init__(self) -> None:
        self.machines: dict[str, FakeMachine] = {}
        self.sizes: dict[str, int] = {}
        """Of the host's devices by path; QEMU cannot grow a disk past that. One that is not here has any size."""
        self.links: dict[str, str] = {}
        """Where a path leads: two paths that lead to one place are one disk."""
        self.on_copy: Callable[[DiskInDomain, MirrorTarget, Task], None] = _copy_at_once
        """What happens between the beginning of a mirror and its being ready: raise what is to go wrong."""
        self.peers: dict[str, FakeDomains] = {}
        """Other hosts by name; what is not here cannot be reached."""
        self.cpus: set[str] | None = None
        """The `<cpu>` that this host can give; None: any."""
        self.on_send: Callable[[FakePassage], None] = _send_at_once
        """What becomes of a machine that is sent: raise what is to go wrong."""
        self.secrets: dict[str, bytes] = {}
        """What opens volumes, by the UUID of the secret."""
        self._failures: dict[str, list[AgentError]] = {}
        self._lost_answers: dict[str, list[AgentError]] = {}
        self._on_change: Callable[[str | None], None] = lambda _uuid: None

    # What a test does.

    def add(self, machine: FakeMachine) -> Domain:
        self.machines[machine.uuid] = machine
        return machine.domain

    def fail(self, method: str, *errors: AgentError) -> None:
        """The next calls of the method raise these, one each, and do nothing."""
        self._failures.setdefault(method, []).extend(errors)

    def lose_answer(self, method: str, *errors: AgentError) -> None:
        """As `fail`, after the call has done what it does. For `freeze` and `pivot`."""
        self._lost_answers.setdefault(method, []).extend(errors)

    def let_go(self, uuid: str) -> None:
        """The guest lets go of all that it was asked for, late."""
        machine = self.machines[uuid]
        for target in sorted(machine.asked):
            self._remove_live(machine, target)
        self._on_change(uuid)

    def stop(self, uuid: str) -> None:
        """The machine is switched off; a transient one is gone with that."""
        machine = self.machines[uuid]
        machine.running = False
        machine.frozen = False
        machine.live.clear()
        machine.asked.clear()
        machine.mirrors.clear()
        if not machine.persistent:
            del self.machines[uuid]
        self._on_change(uuid)

    def reconnect(self) -> None:
        """libvirtd was restarted. It keeps no secrets over that."""
        self.secrets.clear()
        self._on_change(None)

    # What the agent does.

    def on_disks_changed(self, callback: Callable[[str | None], None]) -> None:
        self._on_change = callback

    def find(self, vm: str, deadline: Deadline) -> Domain:
        self._fail_if_told("find")
        for machine in self.machines.values():
            if vm in (machine.uuid, machine.name):
                return machine.domain
        raise VmNotFound(f"this host has no machine {vm}", vm=vm)

    def having(self, paths: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        self._fail_if_told("having")
        return [disk for machine in self.machines.values() for disk in self._disks(machine, paths)]

    def below(self, directories: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        self._fail_if_told("below")
        return [
            _in_domain(machine, target, disk)
            for machine in self.machines.values()
            for target, disk in (machine.config | machine.live).items()
            if any(disk.path.startswith(directory.rstrip("/") + "/") for directory in directories)
        ]

    def place(self, domain: Domain, disk: Disk, deadline: Deadline) -> str:
        self._fail_if_told("place")
        machine = self._machine(domain)
        present = self._refuse_disk(machine, disk)
        return present[0].target if present else _free_target(machine, disk)

    def plug(self, domain: Domain, disk: Disk, deadline: Deadline) -> DiskInDomain:
        self._fail_if_told("plug")
        machine = self._machine(domain)
        present = self._refuse_disk(machine, disk)
        if disk.config and not machine.persistent:
            raise LibvirtRefused("libvirt: transient domains do not have any persistent config", vm=domain.uuid)
        live = disk.live and not any(there.live for there in present)
        config = disk.config and not any(there.config for there in present)
        if live or config:
            target = present[0].target if present else _free_target(machine, disk)
            _refuse_without_slot(machine, disk, live=live)
            if live and disk.secret is not None and disk.secret not in self.secrets:
                raise LibvirtRefused(f"libvirt: no secret with matching uuid '{disk.secret}'", vm=domain.uuid)
            if live:
                machine.live[target] = disk
            if config:
                machine.config[target] = disk
        return self._disks(machine, [disk.path])[0]

    def unplug(self, domain: Domain, disk: DiskInDomain, wait_guest_s: float, deadline: Deadline) -> None:
        self._fail_if_told("unplug")
        machine = self.machines.get(domain.uuid)
        if machine is None:
            return
        for there in self._disks(machine, [disk.path]):
            if there.target in machine.mirrors:
                raise VmBusy(f"{there.target} of {machine.name} is being copied", vm=machine.uuid)
            machine.config.pop(there.target, None)
            if there.live:
                self._unplug_live(machine, there)

    def resize(self, disk: DiskInDomain, size_bytes: int, deadline: Deadline) -> int:
        self._fail_if_told("resize")
        machine = self._machine(disk.domain)
        if not machine.running:
            raise VmNotRunning(f"{machine.name} is not running", vm=machine.uuid)
        if disk.target not in machine.live or size_bytes > self.sizes.get(disk.path, size_bytes):
            raise GuestNotNotified("libvirt: Cannot grow device files", vm=machine.uuid)
        machine.sizes[disk.target] = size_bytes
        return size_bytes

    def tune(self, domain: Domain, disk: DiskInDomain, limits: IoTune, deadline: Deadline) -> IoTune:
        self._fail_if_told("tune")
        machine = self._machine(domain)
        parts = [part for part in (machine.live, machine.config) if disk.target in part]
        if not parts:
            raise DiskNotFound(f"{machine.name} does not have {disk.path} any more", vm=machine.uuid)
        merged = [_merged(part[disk.target].iotune, limits, machine) for part in parts]
        for part, tuned in zip(parts, merged, strict=True):
            part[disk.target] = replace(part[disk.target], iotune=tuned)
        return merged[0]

    def freeze(self, domain: Domain, deadline: Deadline) -> None:
        self._fail_if_told("freeze")
        machine = self._machine(domain)
        if not machine.running:
            raise VmNotRunning(f"{machine.name} is not running", vm=machine.uuid)
        _refuse_without_agent(machine)
        if not machine.freezable:
            raise GuestNotFrozen(f"the guest of {machine.name} did not freeze", vm=machine.uuid)
        machine.frozen = True
        self._lose_answer_if_told("freeze")

    def thaw(self, domain: Domain, deadline: Deadline) -> bool:
        self._fail_if_told("thaw")
        machine = self.machines.get(domain.uuid)
        if machine is None or not machine.running:
            return False
        _refuse_without_agent(machine)
        held, machine.frozen = machine.frozen, False
        return held

    def mirror(self, disk: DiskInDomain, target: MirrorTarget, task: Task, deadline: Deadline) -> None:
        self._fail_if_told("mirror")
        task.interrupt.check()
        machine, there = self._running(disk), self._live(disk, target.path)
        if there.path == target.path:
            return
        mirror = machine.mirrors.get(disk.target)
        if mirror is None:
            self._refuse_target(disk, target)
            mirror = machine.mirrors[disk.target] = FakeMirror(target)
        elif mirror.to.path != target.path:
            raise DiskConflict(f"{disk.target} of {machine.name} is being copied elsewhere", vm=machine.uuid)
        try:
            self.on_copy(disk, target, task)
        except AgentStopping:
            raise
        except Exception:
            machine.mirrors.pop(disk.target, None)
            raise
        mirror.ready = True

    def pivot(self, disk: DiskInDomain, target: MirrorTarget, deadline: Deadline) -> DiskInDomain:
        self._fail_if_told("pivot")
        machine, there = self._running(disk), self._live(disk, target.path)
        mirror = machine.mirrors.get(disk.target)
        if there.path != target.path:
            if mirror is None or not mirror.ready or mirror.to.path != target.path:
                raise BlockJobFailed(f"the copy of {disk.target} to {target.path} is not complete", vm=machine.uuid)
            del machine.mirrors[disk.target]
            machine.live[disk.target] = replace(there, path=target.path)
        for configured_at, configured in machine.config.items():
            if self._real(configured.path) == self._real(disk.path):
                machine.config[configured_at] = replace(configured, path=target.path)
        self._lose_answer_if_told("pivot")
        return next(one for one in self._disks(machine, [target.path]) if one.target == disk.target)

    def end_mirror(self, vm: str, target_path: str, deadline: Deadline) -> None:
        self._fail_if_told("end_mirror")
        machine = self.machines.get(vm)
        if machine is None:
            return
        for at, disk in machine.live.items():
            if disk.path == target_path:
                raise DiskInUseByVm(f"{machine.name} has been moved to {target_path}", vm=vm, target=at)
        machine.mirrors = {at: mirror for at, mirror in machine.mirrors.items() if mirror.to.path != target_path}

    def capacity(self, disk: DiskInDomain, deadline: Deadline) -> int:
        self._fail_if_told("capacity")
        machine, _ = self._running(disk), self._live(disk)
        return machine.sizes.get(disk.target, self.sizes.get(disk.path, 0))

    def portray(self, vm: str, deadline: Deadline) -> Portrait:
        self._fail_if_told("portray")
        machine = self._machine(self.find(vm, deadline))
        disks = machine.live if machine.running else machine.config
        return Portrait(
            domain=machine.domain,
            paused=self._presence(machine).standing == "paused",
            cpu=machine.cpu,
            arch="x86_64",
            machine_type="pc-q35-7.2",
            domain_type="qemu",
            memory_bytes=machine.memory_bytes,
            vcpus=1,
            disks=tuple(
                MachineDisk(target, "disk", disk.path, "raw", disk.mode, disk.cache, encrypted=False, bus=disk.bus)
                for target, disk in disks.items()
            ),
        )

    def refuse_misfit(self, platform: Platform, deadline: Deadline) -> None:
        self._fail_if_told("refuse_misfit")
        if platform.cpu is not None and self.cpus is not None and platform.cpu not in self.cpus:
            raise CpuIncompatible("this host cannot give a machine that CPU", arch=platform.arch)

    def standing(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> Presence:
        self._fail_if_told("standing" if peer is None else "standing there")
        machine = self._at(peer).machines.get(vm)
        return Presence("absent") if machine is None else self._presence(machine)

    def send(self, passage: Passage, begun: Callable[[], None], task: Task, deadline: Deadline) -> bool:
        self._fail_if_told("send")
        machine = self.machines.get(passage.vm)
        if machine is None or machine.standing != "leaving":
            task.interrupt.check()
        if machine is None:
            raise VmNotFound(f"there is no machine {passage.name} any more", vm=passage.vm)
        if not machine.running:
            raise VmNotRunning(f"{passage.name} is not running", vm=passage.vm)
        if machine.mirrors:
            raise VmBusy(f"{passage.name} has a block job", vm=passage.vm)
        there = self._at(passage.peer)
        if passage.vm in there.machines and there.machines[passage.vm].running:
            raise MigrationFailed(f"{passage.peer} has {passage.name} already", vm=passage.vm)
        begun()
        self.on_send(FakePassage(machine, self, there, task))
        self._lose_answer_if_told("send")
        return passage.vm not in self.machines

    def sent(self, vm: str, peer: str, deadline: Deadline) -> Sent:
        self._fail_if_told("sent")
        return Sent(self._at(peer).machines[vm].memory_bytes, 40, 1000)

    def resume(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> None:
        self._fail_if_told("resume" if peer is None else "resume there")
        machine = self._at(peer).machines.get(vm)
        if machine is None:
            raise VmNotFound(f"there is no machine {vm}", vm=vm)
        if self._presence(machine).standing == "paused":
            machine.standing, machine.by_migration = None, False
        self._lose_answer_if_told("resume" if peer is None else "resume there")

    def remove(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> None:
        self._fail_if_told("remove" if peer is None else "remove there")
        host = self._at(peer)
        machine = host.machines.get(vm)
        if machine is None:
            raise VmNotFound(f"there is no machine {vm}", vm=vm)
        present = self._presence(machine)
        if present.active and present.standing != "paused":
            raise MigrationUnknown(f"{machine.name} is {present} by now", vm=vm)
        del host.machines[vm]
        self._lose_answer_if_told("remove" if peer is None else "remove there")

    def _at(self, peer: str | None) -> "FakeDomains":
        if peer is None:
            return self
        if peer not in self.peers:
            raise DestinationUnreachable(f"the libvirt of {peer} has not answered in time", host=peer)
        return self.peers[peer]

    def _presence(self, machine: FakeMachine) -> Presence:
        if not machine.running:
            return Presence("off", "only its configuration is here")
        return Presence(machine.standing or "running", "as told", machine.by_migration)

    def set_secret(self, global_id: str, path: str, passphrase: SecretBytes, deadline: Deadline) -> None:
        self._fail_if_told("set_secret")
        self.secrets[secret_uuid(global_id)] = passphrase.get_secret_value()

    def forget_secret(self, global_id: str, deadline: Deadline) -> None:
        self._fail_if_told("forget_secret")
        self.secrets.pop(secret_uuid(global_id), None)

    def versions(self, deadline: Deadline) -> tuple[str, str]:
        self._fail_if_told("versions")
        return "9.0.0", "7.2.0"

    def _running(self, disk: DiskInDomain) -> FakeMachine:
        machine = self._machine(disk.domain)
        if not machine.running:
            raise VmNotRunning(f"{machine.name} is not running", vm=machine.uuid)
        return machine

    def _live(self, disk: DiskInDomain, other_path: str | None = None) -> Disk:
        there = self._machine(disk.domain).live.get(disk.target)
        if there is None or there.path not in (disk.path, other_path):
            raise DiskConflict(f"{disk.target} is no longer {disk.path}", vm=disk.domain.uuid, target=disk.target)
        return there

    def _refuse_target(self, disk: DiskInDomain, target: MirrorTarget) -> None:
        for machine in self.machines.values():
            for there in self._disks(machine, [target.path]):
                raise DiskInUseByVm(
                    f"{target.path} is {there.target} of {machine.name}",
                    vm=machine.uuid,
                    name=machine.name,
                    target=there.target,
                )
        ours = self._machine(disk.domain).sizes.get(disk.target, self.sizes.get(disk.path))
        theirs = self.sizes.get(target.path)
        if ours is not None and theirs is not None and ours != theirs:
            refusal = WouldShrink if theirs < ours else SizeChanged
            raise refusal(f"{target.path} has {theirs} bytes, {disk.target} has {ours}", vm=disk.domain.uuid)

    def _unplug_live(self, machine: FakeMachine, there: DiskInDomain) -> None:
        machine.asked.add(there.target)
        facts = {"vm": machine.uuid, "target": there.target, "alias": there.alias}
        if machine.refuses:
            raise UnplugRejected(f"the guest of {machine.name} refuses to let {there.target} go", **facts)
        if not machine.answers:
            raise UnplugPending(f"the guest of {machine.name} has not let {there.target} go yet", **facts)
        self._remove_live(machine, there.target)
        self._on_change(machine.uuid)

    def _remove_live(self, machine: FakeMachine, target: str) -> None:
        machine.live.pop(target, None)
        machine.asked.discard(target)

    def _refuse_disk(self, machine: FakeMachine, disk: Disk) -> Sequence[DiskInDomain]:
        """What the machine has of it already."""
        self._refuse_second_machine(machine, disk)
        present = self._disks(machine, [disk.path])
        for there in present:
            _refuse_other_settings(there, disk)
        if disk.live and not machine.running:
            raise VmNotRunning(f"{machine.name} is not running", vm=machine.uuid)
        return present

    def _machine(self, domain: Domain) -> FakeMachine:
        if domain.uuid not in self.machines:
            raise VmNotFound(f"there is no machine {domain.name} any more", vm=domain.uuid)
        return self.machines[domain.uuid]

    def _refuse_second_machine(self, machine: FakeMachine, disk: Disk) -> None:
        for other in self.machines.values():
            for there in self._disks(other, [disk.path]) if other is not machine else ():
                raise DiskInUseByVm(
                    f"{disk.path} is {there.target} of {other.name}",
                    vm=other.uuid,
                    name=other.name,
                    target=there.target,
                )

    def _disks(self, machine: FakeMachine, paths: Sequence[str]) -> list[DiskInDomain]:
        """One for each target. A configuration that leads elsewhere than what runs is another disk."""
        real = {self._real(path) for path in paths}
        live, config = (
            {at: disk for at, disk in part.items() if self._real(disk.path) in real}
            for part in (machine.live, machine.config)
        )
        return [
            replace(_in_domain(machine, at, disk), live=at in live, config=at in config)
            for at, disk in (config | live).items()
        ]

    def _real(self, path: str) -> str:
        return self.links.get(path, path)

    def _fail_if_told(self, method: str) -> None:
        if self._failures.get(method):
            raise self._failures[method].pop(0)

    def _lose_answer_if_told(self, method: str) -> None:
        if self._lost_answers.get(method):
            raise self._lost_answers[method].pop(0)


def _send_at_once(passage: FakePassage) -> None:
    for done in (1, 2):
        passage.task.report(done, 2)
        passage.task.interrupt.check()
    passage.arrive()
    passage.leave()


def _copy_at_once(disk: DiskInDomain, target: MirrorTarget, task: Task) -> None:
    for done in (1, 2):
        task.interrupt.check()
        task.report(done, 2)
        task.interrupt.check()


def _in_domain(machine: FakeMachine, target: str, disk: Disk) -> DiskInDomain:
    slot = list(machine.live).index(target) + 1 if target in machine.live else 0
    return DiskInDomain(
        domain=replace(machine.domain),
        path=disk.path,
        target=target,
        bus=disk.bus,
        live=target in machine.live,
        config=target in machine.config,
        alias=disk.alias,
        serial=disk.serial,
        address=f"pci:0000:{slot:02x}:00.0" if disk.bus == "virtio" else f"drive:0:0:0:{slot}",
        mode=disk.mode,
        secret=disk.secret,
    )


def _refuse_other_settings(there: DiskInDomain, disk: Disk) -> None:
    wanted = (disk.bus, disk.mode, disk.target or there.target, disk.secret)
    if (there.bus, there.mode, there.target, there.secret) != wanted:
        raise DiskConflict(
            f"{there.domain.name} has {disk.path} as {there.target} ({there.bus}, {there.mode})",
            vm=there.domain.uuid,
            target=there.target,
            bus=there.bus,
            mode=there.mode,
        )


def _merged(present: IoTune | None, limits: IoTune, machine: FakeMachine) -> IoTune:
    there = {} if present is None else present.model_dump(exclude_none=True)
    nothing = dict.fromkeys(IoTune.model_fields, 0)
    try:
        return IoTune(**{**nothing, **there, **limits.model_dump(exclude_none=True)})
    except ValueError as error:
        raise InvalidCommand(
            f"{machine.name} has limits that these cannot be combined with", vm=machine.uuid
        ) from error


def _refuse_without_agent(machine: FakeMachine) -> None:
    if not machine.guest_agent:
        raise GuestAgentUnavailable(f"the guest of {machine.name} runs no agent", vm=machine.uuid)


def _free_target(machine: FakeMachine, disk: Disk) -> str:
    taken = machine.live.keys() | machine.config.keys()
    if disk.target in taken:
        raise TargetTaken(f"{machine.name} has another disk at {disk.target}", vm=machine.uuid, target=disk.target)
    prefix = "vd" if disk.bus == "virtio" else "sd"
    names = (prefix + "".join(letters) for length in (1, 2) for letters in product(ascii_lowercase, repeat=length))
    return disk.target or next(name for name in names if name not in taken)


def _refuse_without_slot(machine: FakeMachine, disk: Disk, *, live: bool) -> None:
    if disk.bus == "scsi":
        if not machine.scsi:
            raise NoHotplugSlot(f"{machine.name} has no SCSI controller", vm=machine.uuid)
    elif live and sum(there.bus == "virtio" for there in machine.live.values()) >= machine.slots:
        raise NoHotplugSlot("libvirt: No more available PCI slots", vm=machine.uuid)
