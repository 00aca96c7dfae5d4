# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Finding what a command names, and connecting and disconnecting it: what several commands do."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.domains.model import DiskInDomain
from storpool_agent.encryption_errors import NotEncrypted
from storpool_agent.errors import (
    AgentError,
    AttachedElsewhere,
    DetachIncomplete,
    DeviceMismatch,
    DiskConflict,
    DiskInUseByVm,
    LibvirtTimeout,
    LibvirtUnavailable,
    SnapshotNotFound,
    StorPoolTimeout,
    UnplugPending,
    VolumeBusy,
    VolumeIncomplete,
    VolumeNotFound,
)
from storpool_agent.host import Host
from storpool_agent.journal.temporaries import ATTACHMENT, USE
from storpool_agent.migration_errors import MigrationUnderWay
from storpool_agent.storpool.model import Attachment, Volume
from storpool_commands.disks import Mode, OnRemoteAttached, Purpose
from storpool_commands.labels import LUKS, LUKS1, WRITING
from storpool_commands.references import parse

log = structlog.get_logger()

UNDO_TIMEOUT_S = 15.0
"""For taking back what a failed command did, when its own time may be over."""

ATTACH_NOTE = "attach"


@dataclass(frozen=True)
class Wish:
    """How a volume is to be connected."""

    mode: Mode
    purpose: Purpose = "vm"
    on_remote_attached: OnRemoteAttached = "export"
    generation: int | None = None


@dataclass(frozen=True)
class Connected:
    """A volume on this host."""

    device: Device
    attached_now: bool
    """This command attached it, in this attempt or an earlier one."""


def find(volume: str | None, snapshot: str | None, host: Host, deadline: Deadline) -> Volume:
    """The one that the command names. Raises VolumeNotFound or SnapshotNotFound."""
    if snapshot is not None:
        return host.storpool.snapshot(parse(snapshot), deadline)
    return host.storpool.volume(parse(volume or ""), deadline)


def find_or_none(volume: str | None, snapshot: str | None, host: Host, deadline: Deadline) -> Volume | None:
    """As `find`, for commands to which "there is no such thing" is good news."""
    try:
        return find(volume, snapshot, host, deadline)
    except (VolumeNotFound, SnapshotNotFound):
        return None


def paths(volume: Volume, host: Host) -> list[str]:
    """Every path by which a machine may have the volume as a disk."""
    return host.devices.links(volume.global_id, volume.name)


def refuse_pending(volume: Volume, attempt: Attempt) -> None:
    """A volume whose guest may let go of it at any moment is going to be detached then. Raises UnplugPending."""
    pending = attempt.pending_unplug(volume.global_id)
    if pending is not None:
        raise UnplugPending(
            f"volume {volume.global_id}: the guest of {pending.vm} has been asked to let go of it and has not yet; "
            "it will be detached when it does",
            volume=volume.global_id,
            vm=pending.vm,
        )


def refuse_migrating(attempt: Attempt, volumes: Sequence[Volume] = (), vm: str | None = None) -> None:
    """While a machine (a UUID) goes to another host, nothing else changes it or what it has. Raises MigrationUnderWay.

    The migration's own commands are let pass. `force` is no reason to: whoever is to end it says rollbackMigration.
    """
    tickets = [attempt.tickets.with_volume(one.global_id) for one in volumes]
    tickets.append(attempt.tickets.of_machine(vm) if vm else None)
    for ticket in tickets:
        if ticket is not None and ticket.migration != attempt.migration:
            way = f"to {ticket.peer}" if ticket.role == "source" else f"from {ticket.peer}"
            raise MigrationUnderWay(
                f"machine {ticket.name} is on its way {way}, or was to be (migration {ticket.migration}); wait for its "
                "end, or end it: finishMigration when it runs there, rollbackMigration when it does not",
                migration=ticket.migration,
                vm=ticket.vm,
                peer=ticket.peer,
                role=ticket.role,
            )


def refuse_incomplete(volume: Volume, attempt: Attempt) -> None:
    """A volume that a copy job is still writing is nobody else's. Raises VolumeIncomplete."""
    writer = volume.tags.get(WRITING)
    if writer is not None and writer != attempt.request_id:
        raise VolumeIncomplete(
            f"volume {volume.global_id} is still being written by request {writer}; wait for its reply",
            volume=volume.global_id,
            request=writer,
        )


def refuse_unformatted(volume: Volume) -> None:
    """One that is to be encrypted is nobody's before: what was written to it would be lost. Raises NotEncrypted."""
    state = volume.tags.get(LUKS, LUKS1)
    if state != LUKS1:
        raise NotEncrypted(
            f"volume {volume.global_id} is to be encrypted, and is not yet ({LUKS}={state}): encryptVolume it first",
            volume=volume.global_id,
        )


def jobs_using(global_id: str, attempt: Attempt) -> list[str]:
    """The copy jobs of this host, other than this, that read or write a volume or snapshot here."""
    users = attempt.temporaries.with_target(USE, global_id)
    return [one.command for one in users if one.command != attempt.request_id]


def refuse_jobs(volume: Volume, attempt: Attempt) -> None:
    """Raises VolumeBusy, naming the jobs."""
    jobs = jobs_using(volume.global_id, attempt)
    if jobs:
        _busy(volume, [f"job {one}" for one in jobs], "wait for their replies, or cancel them (cancelCommand)")


def connect(volume: Volume, wish: Wish, host: Host, attempt: Attempt, deadline: Deadline) -> Connected:
    """Attach unless attached, make sure that nobody else writes, wait for the device; undo it all on failure."""
    refuse_pending(volume, attempt)
    refuse_migrating(attempt, [volume])
    refuse_incomplete(volume, attempt)
    refuse_unformatted(volume)
    with attempt.step("check"):
        attachments = attachments_of(volume, host.storpool.attachments(deadline))
        refuse_other_writers(volume, wish, host, attachments)
        mine = mine_of(attachments, host)
        if mine is not None:
            refuse_mode(volume, mine, wish.mode)
            attempt.temporaries.give_away(ATTACHMENT, volume.global_id)
    made = attempt.noted(ATTACH_NOTE, volume.global_id) or mine is None
    try:
        with attempt.step("attach", changes=True) as step:
            if mine is not None:
                step.already()
            else:
                attempt.note(ATTACH_NOTE, volume.global_id)
                attach(volume, wish, host, deadline)
        if mine is None:
            with attempt.step("confirm"):
                refuse_other_writers(volume, wish, host, attachments_of(volume, host.storpool.attachments(deadline)))
        with attempt.step("device"):
            device = host.devices.wait_ready(volume.global_id, volume.size_bytes, wish.mode, deadline)
    except AgentError:
        if made:
            undo_connect(volume, host, attempt)
        raise
    return Connected(device, made)


def undo_connect(volume: Volume, host: Host, attempt: Attempt) -> None:
    """Detach what this command attached."""
    with attempt.undo("attach"):
        host.storpool.detach(volume, Deadline.after(UNDO_TIMEOUT_S))


def disconnect(volume: Volume, host: Host, attempt: Attempt, deadline: Deadline, *, force: bool = False) -> bool:
    """Detach unless detached, and wait until the device is gone; true if it was attached.

    Raises VolumeBusy with who holds it. With `force` only a machine of this host can hold it.
    """
    refuse_migrating(attempt, [volume])
    with attempt.step("check"):
        attached = mine_of(attachments_of(volume, host.storpool.attachments(deadline)), host) is not None
        device = device_of(volume, host)
        if attached:
            refuse_jobs(volume, attempt)
            _refuse_machines(volume, host, deadline, force=force)
            if device is not None and not force:
                refuse_holders(volume, device, host)
    with attempt.step("detach", changes=True) as step:
        if attached:
            host.storpool.detach(volume, deadline, force=force)
        else:
            step.already()
    with attempt.step("device"):
        wait_gone(volume, device, host, deadline, force=force)
    attempt.forget_unplug(volume.global_id)
    return attached


def machines_with(volume: Volume, host: Host, deadline: Deadline) -> Sequence[DiskInDomain]:
    """The machines of this host that have the volume, running or only configured."""
    return host.domains.having(paths(volume, host), deadline)


def attach(volume: Volume, wish: Wish, host: Host, deadline: Deadline) -> None:
    """Attach; where the answer was lost, what the cluster says counts."""
    try:
        host.storpool.attach(volume, wish.mode, wish.on_remote_attached, deadline)
    except StorPoolTimeout:
        if mine_of(attachments_of(volume, host.storpool.attachments(Deadline.after(UNDO_TIMEOUT_S))), host) is None:
            raise
        log.warning("attached after all", volume=volume.global_id)


def attachments_of(volume: Volume, attachments: Sequence[Attachment]) -> list[Attachment]:
    return [one for one in attachments if one.global_id == volume.global_id]


def mine_of(attachments: Sequence[Attachment], host: Host) -> Attachment | None:
    return next((one for one in attachments if one.client == host.storpool.our_id), None)


def refuse_other_writers(volume: Volume, wish: Wish, host: Host, attachments: Sequence[Attachment]) -> None:
    """Two hosts that write to one volume destroy its data; only a migration hands it over, while the guest stands."""
    if wish.mode == "ro" or wish.purpose == "migration":
        return
    writers = sorted(one.client for one in attachments if one.client != host.storpool.our_id and one.mode == "rw")
    if writers:
        raise AttachedElsewhere(
            f"volume {volume.global_id} is attached rw to client {', '.join(map(str, writers))}; "
            "detach it there first, or connect with purpose migration",
            volume=volume.global_id,
            clients=[str(one) for one in writers],
        )


def refuse_mode(volume: Volume, mine: Attachment, mode: Mode) -> None:
    """Raises DiskConflict when it is attached to this host otherwise."""
    if mine.mode != mode:
        raise DiskConflict(
            f"volume {volume.global_id} is attached to this host {mine.mode}, not {mode}; disconnect it first",
            volume=volume.global_id,
            mode=mine.mode,
        )


def device_of(volume: Volume, host: Host) -> Device | None:
    """The device, if it can be looked at: a detach must not fail because the link is damaged."""
    try:
        return host.devices.look(volume.global_id)
    except DeviceMismatch as error:
        log.warning("odd device", volume=volume.global_id, reason=str(error))
        return None


def _refuse_machines(volume: Volume, host: Host, deadline: Deadline, *, force: bool) -> None:
    """A machine that runs with it keeps it, forced or not.

    Without libvirt an unforced detach goes on: QEMU then shows as a process that holds the device.
    """
    try:
        live = [disk for disk in machines_with(volume, host, deadline) if disk.live]
    except (LibvirtUnavailable, LibvirtTimeout) as error:
        if force:
            raise
        log.warning("machines not checked", volume=volume.global_id, reason=str(error))
        return
    if live and force:
        names = ", ".join(disk.domain.name for disk in live)
        raise DiskInUseByVm(
            f"volume {volume.global_id} is a disk of the running {names}; detachDisk it first, force is refused",
            volume=volume.global_id,
            vms=[disk.domain.uuid for disk in live],
        )
    if live:
        _busy(volume, [f"vm {disk.domain.name} as {disk.target}" for disk in live])


def refuse_holders(volume: Volume, device: Device, host: Host) -> None:
    holders = host.devices.holders(device)
    if holders:
        _busy(volume, [f"{one.kind} {one.name}" + (f" (pid {one.pid})" if one.pid else "") for one in holders])


def _busy(volume: Volume, holders: list[str], what_to_do: str = "stop them, then try again") -> None:
    raise VolumeBusy(
        f"volume {volume.global_id} is in use on this host by {', '.join(holders)}; {what_to_do}",
        volume=volume.global_id,
        holders=list(holders),
    )


def wait_gone(volume: Volume, device: Device | None, host: Host, deadline: Deadline, *, force: bool) -> None:
    """After a forced detach the node stays as long as somebody has it open; the link is gone all the same."""
    try:
        host.devices.wait_gone(volume.global_id, None if force else device, deadline)
    except DetachIncomplete as error:
        raise DetachIncomplete(
            f"{error}; StorPool has detached it, its client on this host has not", volume=volume.global_id
        ) from error
