# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""attachDisk and detachDisk: volumes as disks of virtual machines."""

from collections.abc import Sequence

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Disk, DiskInDomain, Domain, secret_uuid
from storpool_agent.errors import AgentError, DiskInUseByVm, DiskNotFound, UnplugPending, VmNotFound, VmNotRunning
from storpool_agent.handlers import connecting, labelling, unlocking
from storpool_agent.handlers.connecting import Wish
from storpool_agent.host import Host
from storpool_agent.storpool.model import Volume
from storpool_commands.disks import AttachDisk, AttachedDisk, DetachDisk, DetachedDisk, DiskQos, SetDiskQos
from storpool_commands.errors import retry_class
from storpool_commands.references import parse

NATIVE_CACHES = frozenset({"none", "directsync"})
"""Cache modes that open the device with O_DIRECT, which QEMU asks for with io=native."""


def attach(command: AttachDisk, host: Host, attempt: Attempt) -> AttachedDisk:
    """Connect the volume and plug it in; what this command did is undone in reverse order if it fails."""
    deadline = Deadline.after(command.timeout_s)
    with attempt.step("find"):
        volume = host.storpool.volume(parse(command.volume), deadline)
        domain = host.domains.find(command.vm, deadline)
        _check_state(command, domain)
        connecting.refuse_migrating(attempt, [volume], domain.uuid)
        passphrase = unlocking.key_of(volume, command.encryption, host)
    attempt.fence(volume.global_id, command.generation)
    with attempt.step("machines"):
        here = _refuse_other_machines(volume, domain, connecting.machines_with(volume, host, deadline))
    wish = Wish(command.mode, generation=command.generation)
    connected = connecting.connect(volume, wish, host, attempt, deadline)
    try:
        payload_size_bytes = unlocking.prove(volume, connected.device, passphrase, host, attempt)
        unlocking.give(volume, passphrase, host, attempt, deadline)
        with attempt.step("plug", changes=True) as step:
            disk = _disk(command, volume, domain, connected.device.link)
            plugged = host.domains.plug(domain, disk, deadline)
            if here is not None and (here.live, here.config) == (plugged.live, plugged.config):
                step.already()
    except AgentError as error:
        # A machine that may have the disk after all keeps its volume, and what opens it.
        if retry_class(error.code) != "uncertain":
            if here is None:
                unlocking.undo(volume, host, attempt)
            if connected.attached_now:
                connecting.undo_connect(volume, host, attempt)
        raise
    labelling.label(volume, command.vm_tags(domain.uuid), host, attempt)
    return AttachedDisk(
        global_id=volume.global_id,
        vm=domain.uuid,
        path=plugged.path,
        size_bytes=connected.device.size_bytes,
        payload_size_bytes=payload_size_bytes,
        target=plugged.target,
        bus=command.bus,
        serial=plugged.serial or "",
        address=plugged.address,
        live=plugged.live,
        persistent=plugged.config,
        attached_now=here is None,
    )


def detach(command: DetachDisk, host: Host, attempt: Attempt) -> DetachedDisk:
    """Unplug the disk, wait for the guest, disconnect the volume."""
    deadline = Deadline.after(command.timeout_s + command.wait_guest_s)
    with attempt.step("find"):
        volume = connecting.find_or_none(command.volume, None, host, deadline)
        domain = _domain_or_none(command.vm, host, deadline)
    if volume is None:
        return DetachedDisk(global_id=None, vm=domain.uuid if domain else None, unplugged_now=False, detached_now=False)
    connecting.refuse_migrating(attempt, [volume], domain.uuid if domain else None)
    attempt.fence(volume.global_id, command.generation)
    unplugged = domain is not None and _unplug(volume, domain, command.wait_guest_s, host, attempt, deadline)
    detached = connecting.disconnect(volume, host, attempt, Deadline.after(command.timeout_s))
    unlocking.take_back(volume, host, attempt, Deadline.after(command.timeout_s))
    labelling.unlabel(volume, domain.uuid if domain else command.vm, host, attempt)
    return DetachedDisk(
        global_id=volume.global_id,
        vm=domain.uuid if domain else None,
        unplugged_now=unplugged,
        detached_now=detached,
    )


def _check_state(command: AttachDisk, domain: Domain) -> None:
    if domain.running:
        return
    if command.require_running or not domain.persistent:
        raise VmNotRunning(f"{domain.name} is not running; start it, then try again", vm=domain.uuid)


def _refuse_other_machines(volume: Volume, domain: Domain, disks: Sequence[DiskInDomain]) -> DiskInDomain | None:
    """The disk in this machine, if it has it. Raises DiskInUseByVm when another one has, running or configured."""
    for disk in disks:
        if disk.domain.uuid != domain.uuid:
            raise DiskInUseByVm(
                f"volume {volume.global_id} is {disk.target} of {disk.domain.name}; detach it there first",
                volume=volume.global_id,
                vm=disk.domain.uuid,
                target=disk.target,
            )
    return disks[0] if disks else None


def _disk(command: AttachDisk, volume: Volume, domain: Domain, path: str) -> Disk:
    native = command.cache in NATIVE_CACHES
    return Disk(
        path=path,
        serial=command.serial or volume.global_id,
        alias="ua-" + volume.global_id.replace(".", "-"),
        bus=command.bus,
        mode=command.mode,
        cache=command.cache,
        io=command.io or ("native" if native else None),
        discard=command.discard,
        live=domain.running,
        config=domain.persistent if command.persistent is None else command.persistent,
        target=command.target,
        iothread=command.iothread,
        iotune=command.iotune,
        secret=secret_uuid(volume.global_id) if command.encryption else None,
    )


def _domain_or_none(vm: str, host: Host, deadline: Deadline) -> Domain | None:
    try:
        return host.domains.find(vm, deadline)
    except VmNotFound:
        return None


def _unplug(
    volume: Volume, domain: Domain, wait_guest_s: float, host: Host, attempt: Attempt, deadline: Deadline
) -> bool:
    """Take it out of the machine; true if it had it. A guest that takes longer is remembered, also after a restart."""
    with attempt.step("unplug", changes=True) as step:
        disks = [one for one in connecting.machines_with(volume, host, deadline) if one.domain.uuid == domain.uuid]
        if not disks:
            step.already()
            return False
        try:
            host.domains.unplug(domain, disks[0], wait_guest_s, deadline)
        except UnplugPending:
            attempt.expect_unplug(volume.global_id, domain.uuid)
            raise
        return True


def set_qos(command: SetDiskQos, host: Host, attempt: Attempt) -> DiskQos:
    """Set the limits that QEMU applies to a disk, in the running machine and in its configuration."""
    deadline = Deadline.after(command.timeout_s)
    with attempt.step("find"):
        volume = host.storpool.volume(parse(command.volume), deadline)
        domain = host.domains.find(command.vm, deadline)
        connecting.refuse_migrating(attempt, [volume], domain.uuid)
        disks = [one for one in connecting.machines_with(volume, host, deadline) if one.domain.uuid == domain.uuid]
        if not disks:
            raise DiskNotFound(
                f"{domain.name} does not have volume {volume.global_id}; attachDisk it first",
                volume=volume.global_id,
                vm=domain.uuid,
            )
    disk = next((one for one in disks if one.live), disks[0])
    with attempt.step("tune", changes=True):
        limits = host.domains.tune(domain, disk, command.iotune, deadline)
    return DiskQos(
        vm=domain.uuid,
        target=disk.target,
        live=any(one.live for one in disks),
        persistent=any(one.config for one in disks),
        **limits.model_dump(),
    )
