# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""prepareMigration: a host gets ready for a machine that another one is going to send."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import SecretBytes

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Platform
from storpool_agent.errors import AgentError, AttachedElsewhere, DiskInUseByVm, InvalidCommand, NameTaken, VmNotFound
from storpool_agent.handlers import connecting, tickets, unlocking
from storpool_agent.handlers.connecting import UNDO_TIMEOUT_S, Connected, Wish
from storpool_agent.host import Host
from storpool_agent.journal.migrations import Ticket, TicketDisk
from storpool_agent.migration_errors import MigrationCompleted
from storpool_agent.storpool.model import Volume
from storpool_commands.migration import MigrationDisk, PreparedDisk, PreparedMigration, PrepareMigration

OPENED = "ticket"
"""The note that the ticket of a migration is this request's, which closes it when it fails."""


@dataclass(frozen=True)
class _Wanted:
    """One disk of the machine."""

    disk: MigrationDisk
    volume: Volume
    passphrase: SecretBytes | None = field(repr=False)
    """What opens it; None for one that is not encrypted."""


def prepare(command: PrepareMigration, host: Host, attempt: Attempt) -> PreparedMigration:
    """Check, write the ticket, attach. What this command attached is detached again in reverse order if it fails."""
    deadline = Deadline.after(command.timeout_s)
    ticket = tickets.of(command.migration, command.vm, attempt)
    tickets.refuse_over(ticket)
    tickets.refuse_other_role(ticket, "destination")
    if command.source == host.name:
        raise InvalidCommand(f"source: this host is {host.name} itself; the machine is here already")
    tickets.refuse_expired(command.migration, command.expires_at)
    with attempt.step("machine"):
        _check_machine(command, ticket, host, attempt, deadline)
    with attempt.step("volumes"):
        wanted = [_wanted(one, host, deadline) for one in command.disks]
        _check_volumes(command, wanted, host, attempt, deadline)
    ours = ticket is None or attempt.noted(OPENED, ticket.migration)
    ticket = _open(command, wanted, ticket, attempt)
    connected = _attach_all(wanted, ticket, host, attempt, deadline, ours=ours)
    libvirt, qemu = host.domains.versions(deadline)
    made = {disk.global_id for disk in ticket.disks if disk.attached_now}
    return PreparedMigration(
        migration=command.migration,
        vm=command.vm,
        disks=[
            PreparedDisk(
                global_id=one.volume.global_id,
                path=there.device.link,
                attached_now=there.attached_now or one.volume.global_id in made,
            )
            for one, there in zip(wanted, connected, strict=True)
        ],
        expires_at=command.expires_at,
        libvirt_version=libvirt,
        qemu_version=qemu,
    )


def _wanted(disk: MigrationDisk, host: Host, deadline: Deadline) -> _Wanted:
    volume = tickets.volume(disk.volume, host, deadline)
    return _Wanted(disk, volume, unlocking.key_of(volume, disk.encryption, host))


def _check_machine(
    command: PrepareMigration, ticket: Ticket | None, host: Host, attempt: Attempt, deadline: Deadline
) -> None:
    connecting.refuse_migrating(attempt, vm=command.vm)
    here = host.domains.standing(command.vm, deadline)
    if here.active and ticket is None:
        raise MigrationCompleted(
            f"machine {command.name} is on this host already: {here}", vm=command.vm, here=str(here)
        )
    try:
        other = host.domains.find(command.name, deadline)
    except VmNotFound:
        other = None
    if other is not None and other.uuid != command.vm:
        raise NameTaken(
            f"another machine of this host is called {command.name}: {other.uuid}; rename one of the two",
            vm=other.uuid,
            name=command.name,
        )
    platform = Platform(command.domain_type, command.arch, command.machine_type, command.cpu)
    host.domains.refuse_misfit(platform, deadline)


def _check_volumes(
    command: PrepareMigration, wanted: Sequence[_Wanted], host: Host, attempt: Attempt, deadline: Deadline
) -> None:
    if len({one.volume.global_id for one in wanted}) < len(wanted):
        raise InvalidCommand("disks: two of the references are of one volume; name each once")
    connecting.refuse_migrating(attempt, [one.volume for one in wanted])
    attachments = host.storpool.attachments(deadline)
    for one in wanted:
        volume = one.volume
        if volume.snapshot and one.disk.mode == "rw":
            raise InvalidCommand(f"disks: {volume.global_id} is a snapshot, which is attached ro only")
        attempt.fence(volume.global_id, one.disk.generation)
        _refuse_other_machines(command, volume, host, deadline)
        others = [each for each in connecting.attachments_of(volume, attachments) if each.mode == "rw"]
        clients = sorted(str(each.client) for each in others if each.client != host.storpool.our_id)
        if len(clients) > 1:
            raise AttachedElsewhere(
                f"volume {volume.global_id} is attached rw to clients {', '.join(clients)}: only the source has it "
                "while its machine migrates; detach it where the machine does not run",
                volume=volume.global_id,
                clients=clients,
            )


def _refuse_other_machines(command: PrepareMigration, volume: Volume, host: Host, deadline: Deadline) -> None:
    for disk in connecting.machines_with(volume, host, deadline):
        if disk.domain.uuid != command.vm:
            raise DiskInUseByVm(
                f"volume {volume.global_id} is {disk.target} of {disk.domain.name} on this host; detach it there first",
                volume=volume.global_id,
                vm=disk.domain.uuid,
                target=disk.target,
            )


def _open(command: PrepareMigration, wanted: Sequence[_Wanted], ticket: Ticket | None, attempt: Attempt) -> Ticket:
    """Before anything is done for it, and once."""
    disks = tuple(
        TicketDisk(one.volume.global_id, one.disk.mode, encrypted=one.passphrase is not None) for one in wanted
    )
    with attempt.step("ticket", changes=True) as step:
        if ticket is None:
            attempt.note(OPENED, str(command.migration))
            return attempt.tickets.open(
                Ticket(
                    migration=str(command.migration),
                    role="destination",
                    vm=command.vm,
                    name=command.name,
                    peer=command.source,
                    expires_at=command.expires_at.timestamp(),
                    disks=disks,
                )
            )
        step.already()
        if {one.global_id for one in ticket.disks} != {one.global_id for one in disks}:
            raise InvalidCommand(
                f"migration {command.migration} was prepared with other volumes; roll it back, and take a new id",
                volumes=[one.global_id for one in ticket.disks],
            )
        return ticket


def _attach_all(
    wanted: Sequence[_Wanted], ticket: Ticket, host: Host, attempt: Attempt, deadline: Deadline, *, ours: bool
) -> list[Connected]:
    """Raises what keeps one from being attached, once those that this request attached are detached again.

    `ours`: the ticket is this request's.
    """
    connected: list[Connected] = []
    try:
        for one in wanted:
            connected.append(_attach(one, ticket, host, attempt, deadline))
            unlocking.prove(one.volume, connected[-1].device, one.passphrase, host, attempt)
            unlocking.give(one.volume, one.passphrase, host, attempt, deadline)
    except AgentError:
        made = [one.volume for one, there in zip(wanted, connected, strict=False) if there.attached_now]
        _take_back(made, ticket, host, attempt, ours=ours)
        raise
    return connected


def _attach(one: _Wanted, ticket: Ticket, host: Host, attempt: Attempt, deadline: Deadline) -> Connected:
    volume, disk = one.volume, one.disk
    mine = connecting.mine_of(connecting.attachments_of(volume, host.storpool.attachments(deadline)), host)
    if mine is None:
        attempt.tickets.attaching(ticket.migration, volume.global_id, now=True)
    return connecting.connect(volume, Wish(disk.mode, "migration", generation=disk.generation), host, attempt, deadline)


def _take_back(made: Sequence[Volume], ticket: Ticket, host: Host, attempt: Attempt, *, ours: bool) -> None:
    """A ticket that is left with an attachment stays open: rollbackMigration detaches it, or the host complains."""
    deadline = Deadline.after(UNDO_TIMEOUT_S)
    for volume in reversed(made):
        unlocking.undo(volume, host, attempt)
        with attempt.undo("attach"):
            host.storpool.detach(volume, deadline)
    with attempt.undo("ticket"):
        here = {one.global_id for one in host.storpool.attachments(deadline) if one.client == host.storpool.our_id}
        for disk in ticket.disks:
            if disk.global_id not in here:
                attempt.tickets.attaching(ticket.migration, disk.global_id, now=False)
        left = attempt.tickets.get(ticket.migration)
        if ours and left is not None and not any(disk.attached_now for disk in left.disks):
            attempt.tickets.withdraw(ticket.migration)
