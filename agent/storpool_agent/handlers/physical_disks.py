# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""connectPhysicalDisk, disconnectPhysicalDisk(ByPath), getPhysicalDisk."""

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.handlers import connecting, labelling
from storpool_agent.handlers.connecting import Wish
from storpool_agent.host import Host
from storpool_commands.disks import (
    AttachedTo,
    ConnectedDisk,
    ConnectPhysicalDisk,
    DisconnectedDisk,
    DisconnectedDiskByPath,
    DisconnectPhysicalDisk,
    DisconnectPhysicalDiskByPath,
    GetPhysicalDisk,
    PhysicalDisk,
    VmDisk,
)
from storpool_commands.labels import LUKS
from storpool_commands.references import parse

LOOK_TIMEOUT_S = 30.0


def connect(command: ConnectPhysicalDisk, host: Host, attempt: Attempt) -> ConnectedDisk:
    """Attach a volume or snapshot to this host, and prove its device."""
    deadline = Deadline.after(command.timeout_s)
    mode = command.mode or ("ro" if command.snapshot is not None else "rw")
    with attempt.step("find"):
        volume = connecting.find(command.volume, command.snapshot, host, deadline)
    attempt.fence(volume.global_id, command.generation)
    wish = Wish(mode, command.purpose, command.on_remote_attached, command.generation)
    connected = connecting.connect(volume, wish, host, attempt, deadline)
    if command.vm_uuid is not None:
        labelling.label(volume, command.vm_tags(command.vm_uuid), host, attempt)
    return ConnectedDisk(
        global_id=volume.global_id,
        path=connected.device.link,
        real_device=connected.device.node,
        size_bytes=connected.device.size_bytes,
        mode=connected.device.mode,
        attached_now=connected.attached_now,
    )


def disconnect(command: DisconnectPhysicalDisk, host: Host, attempt: Attempt) -> DisconnectedDisk:
    """Detach a volume or snapshot from this host, and wait until its device is gone."""
    return _disconnect(command.volume, command.snapshot, command, host, attempt)


def disconnect_by_path(command: DisconnectPhysicalDiskByPath, host: Host, attempt: Attempt) -> DisconnectedDiskByPath:
    """The same, for a sender that knows the path only."""
    done = _disconnect(str(parse(command.path)), None, command, host, attempt)
    return DisconnectedDiskByPath(global_id=done.global_id, detached_now=done.detached_now)


def look(command: GetPhysicalDisk, host: Host, attempt: Attempt) -> PhysicalDisk:
    """What StorPool, the kernel and libvirt each say. Changes nothing."""
    deadline = Deadline.after(LOOK_TIMEOUT_S)
    with attempt.step("storpool"):
        volume = connecting.find(command.volume, command.snapshot, host, deadline)
        attachments = [one for one in host.storpool.attachments(deadline) if one.global_id == volume.global_id]
    with attempt.step("device"):
        device = host.devices.look(volume.global_id)
        holders = list(host.devices.holders(device)) if device else []
    with attempt.step("machines"):
        disks = connecting.machines_with(volume, host, deadline)
    pending = attempt.pending_unplug(volume.global_id)
    return PhysicalDisk(
        global_id=volume.global_id,
        name=volume.name,
        snapshot=volume.snapshot,
        encrypted=LUKS in volume.tags,
        size_bytes=volume.size_bytes,
        template=volume.template,
        tags=dict(volume.tags),
        attachments=[AttachedTo(client=one.client, mode=one.mode) for one in attachments],
        attached_here=next((one.mode for one in attachments if one.client == host.storpool.our_id), None),
        path=device.link if device else None,
        real_device=device.node if device else None,
        device_size_bytes=device.size_bytes if device else None,
        device_mode=device.mode if device else None,
        holders=holders,
        vms=[
            VmDisk(
                vm=disk.domain.uuid,
                name=disk.domain.name,
                target=disk.target,
                live=disk.live,
                persistent=disk.config,
            )
            for disk in disks
        ],
        pending_unplug_vm=pending.vm if pending else None,
    )


def _disconnect(
    volume: str | None,
    snapshot: str | None,
    command: DisconnectPhysicalDisk | DisconnectPhysicalDiskByPath,
    host: Host,
    attempt: Attempt,
) -> DisconnectedDisk:
    deadline = Deadline.after(command.timeout_s)
    with attempt.step("find"):
        found = connecting.find_or_none(volume, snapshot, host, deadline)
    if found is None:
        return DisconnectedDisk(global_id=None, detached_now=False)
    attempt.fence(found.global_id, command.generation)
    detached = connecting.disconnect(found, host, attempt, deadline, force=command.force)
    if command.vm_uuid is not None:
        labelling.unlabel(found, command.vm_uuid, host, attempt)
    return DisconnectedDisk(global_id=found.global_id, detached_now=detached)
