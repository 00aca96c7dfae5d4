# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""finishMigration and rollbackMigration: which of the two hosts keeps the volumes, once it is proven where it runs."""

from collections.abc import Sequence

import structlog

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Presence
from storpool_agent.errors import AgentError
from storpool_agent.handlers import both_hosts, connecting, tickets, unlocking
from storpool_agent.handlers.verdicts import Verdict
from storpool_agent.host import Host
from storpool_agent.journal.migrations import Ticket, TicketState
from storpool_agent.migration_errors import (
    MigrationCompleted,
    MigrationNotFound,
    MigrationOver,
    MigrationUnderWay,
    MigrationUnknown,
)
from storpool_agent.storpool.model import Attachment, Volume
from storpool_commands.migration import (
    FinishedMigration,
    FinishMigration,
    RollbackMigration,
    RolledBackMigration,
)

log = structlog.get_logger()


def finish(command: FinishMigration, host: Host, attempt: Attempt) -> FinishedMigration:
    """The destination keeps the volumes, the source gives them up."""
    deadline = Deadline.after(command.timeout_s)
    ticket = tickets.of(command.migration, command.vm, attempt)
    if ticket is None or ticket.role is None:
        if ticket is not None:
            raise _over(ticket)
        raise MigrationNotFound(
            f"this host has not heard of migration {command.migration}; is it {host.name} that the machine came to, or "
            "left?",
            migration=str(command.migration),
        )
    if ticket.state == "rolled-back":
        raise _over(ticket)
    attached, detached = _ids(ticket), list[str]()
    if ticket.is_open and ticket.role == "destination":
        _prove_that_it_is_here(ticket, host, attempt, deadline)
        _close(ticket, host, attempt)
    elif ticket.is_open:
        _prove_that_it_has_left(ticket, host, attempt, deadline)
        detached = _detach(tickets.volumes_of(ticket, host, deadline), host, attempt, deadline)
        _close(ticket, host, attempt)
    return FinishedMigration(
        migration=command.migration,
        vm=command.vm,
        role=ticket.role,
        detached=detached,
        attached=attached if ticket.role == "destination" else [],
    )


def roll_back(command: RollbackMigration, host: Host, attempt: Attempt) -> RolledBackMigration:
    """The source keeps the volumes, the destination gives up those that it was given for this."""
    deadline = Deadline.after(command.timeout_s)
    ticket = tickets.of(command.migration, command.vm, attempt)
    if ticket is not None and ticket.state == "finished":
        raise MigrationCompleted(
            f"migration {ticket.migration} is finished on this host: {ticket.name} runs on the destination",
            migration=ticket.migration,
        )
    attached, detached = list[str](), list[str]()
    if ticket is None:
        with attempt.step("close", changes=True):
            attempt.tickets.close(str(command.migration), command.vm, "rolled-back")
    elif ticket.is_open and ticket.role == "destination":
        _refuse_arrived(ticket, host, attempt, deadline)
        detached = _give_back(ticket, host, attempt, deadline)
        _close(ticket, host, attempt, back=True)
    elif ticket.is_open:
        _keep_running(ticket, host, attempt, deadline)
        _close(ticket, host, attempt, back=True)
    if ticket is not None and ticket.role == "source":
        attached = _ids(ticket)
    return RolledBackMigration(
        migration=command.migration,
        vm=command.vm,
        role=None if ticket is None else ticket.role,
        detached=detached,
        attached=attached,
    )


# finish


def _prove_that_it_is_here(ticket: Ticket, host: Host, attempt: Attempt, deadline: Deadline) -> None:
    """On the destination. Raises MigrationUnderWay when it has not come (yet), MigrationUnknown for half of it."""
    with attempt.step("machine"):
        here = host.domains.standing(ticket.vm, deadline)
        if here.standing == "paused":
            raise _unclear(
                ticket,
                host,
                here,
                "it has come, and stands still: migrateVm, sent once more to the source, has it go on. If the source "
                "is off for good, have it go on here (virsh resume), then finish",
            )
        if here.standing != "running":
            raise _not_yet(ticket, f"machine {ticket.name} does not run here (yet): {here}", here)
    with attempt.step("volumes"):
        volumes = tickets.volumes_of(ticket, host, deadline)
        missing = [one.global_id for one in volumes if not _has(ticket, one, host, deadline)]
        if missing:
            raise _unclear(ticket, host, here, f"it runs without {', '.join(missing)}, which it was to bring")
        attachments = host.storpool.attachments(deadline)
        modes = {one.global_id: one.mode for one in attachments if one.client == host.storpool.our_id}
        wrong = [disk.global_id for disk in ticket.disks if modes.get(disk.global_id) != disk.mode]
        if wrong:
            raise _unclear(
                ticket,
                host,
                here,
                f"StorPool does not list {', '.join(wrong)} as attached to this host as it should be",
            )


def _has(ticket: Ticket, volume: Volume, host: Host, deadline: Deadline) -> bool:
    disks = connecting.machines_with(volume, host, deadline)
    return any(disk.live and disk.domain.uuid == ticket.vm for disk in disks)


def _prove_that_it_has_left(ticket: Ticket, host: Host, attempt: Attempt, deadline: Deadline) -> None:
    """On the source. What stands still here is removed with the proof that it runs there, and not without."""
    with attempt.step("machine"):
        sight = both_hosts.look(ticket, host)
        if sight.trouble is not None:
            raise sight.trouble
        verdict = sight.judge(has_moved=ticket.moved)
        if verdict in (Verdict.STAYED, Verdict.STRANDED):
            here = sight.here_again
            raise _not_yet(ticket, f"machine {ticket.name} has not left {host.name}: {both_hosts.said(here)}", here)
        if verdict is not Verdict.MOVED:
            raise sight.unknown(
                ticket, host, "it is not proven to run there, and there alone; send migrateVm once more"
            )
    left_over = isinstance(sight.here_again, Presence) and sight.here_again.active
    with attempt.step("left over", changes=True) as step:
        if left_over:
            log.warning("machine removed", vm=ticket.vm, on=host.name, why="it runs on the other host")
            host.domains.remove(ticket.vm, deadline)
        else:
            step.already()
    with attempt.step("volumes"):
        elsewhere = _writers_elsewhere(host.storpool.attachments(deadline), host)
        alone = [disk.global_id for disk in ticket.disks if disk.mode == "rw" and disk.global_id not in elsewhere]
        if alone:
            raise sight.unknown(ticket, host, f"StorPool lists {', '.join(alone)} as attached rw to no other host")


def _detach(volumes: Sequence[Volume], host: Host, attempt: Attempt, deadline: Deadline) -> list[str]:
    """Those that were attached. An open one is refused, not forced."""
    detached: list[str] = []
    for volume in volumes:
        if connecting.disconnect(volume, host, attempt, deadline):
            detached.append(volume.global_id)
        unlocking.take_back(volume, host, attempt, deadline)
    return detached


# roll back


def _refuse_arrived(ticket: Ticket, host: Host, attempt: Attempt, deadline: Deadline) -> None:
    """On the destination."""
    with attempt.step("machine"):
        here = host.domains.standing(ticket.vm, deadline)
        if here.standing == "arriving":
            raise _not_yet(
                ticket, f"machine {ticket.name} is on its way here; end that first (cancelCommand of migrateVm)", here
            )
        if here.active:
            raise MigrationCompleted(
                f"machine {ticket.name} is on this host: {here}; finish the migration. Does it run on {ticket.peer}, "
                "too? migrateVm, sent there once more, removes what stands still here and never ran",
                migration=ticket.migration,
                vm=ticket.vm,
                here=str(here),
            )


def _give_back(ticket: Ticket, host: Host, attempt: Attempt, deadline: Deadline) -> list[str]:
    """What this migration attached, in reverse order, and nothing else."""
    ours = {disk.global_id for disk in ticket.disks if disk.attached_now}
    volumes = [one for one in tickets.volumes_of(ticket, host, deadline) if one.global_id in ours]
    detached: list[str] = []
    for volume in reversed(volumes):
        if connecting.disconnect(volume, host, attempt, deadline):
            detached.append(volume.global_id)
        unlocking.take_back(volume, host, attempt, deadline)
        attempt.tickets.attaching(ticket.migration, volume.global_id, now=False)
    return detached


def _keep_running(ticket: Ticket, host: Host, attempt: Attempt, deadline: Deadline) -> None:
    """On the source: it runs here, or goes on here when nobody else can have it."""
    with attempt.step("machine"):
        sight = both_hosts.look(ticket, host)
        here = sight.here_again
        if isinstance(here, AgentError):
            raise here
        if here.standing == "leaving":
            raise _not_yet(ticket, f"machine {ticket.name} is on its way; end that first (cancelCommand)", here)
        if isinstance(sight.there, Presence) and sight.there.active:
            verdict = sight.judge(has_moved=ticket.moved)
            if verdict is Verdict.MOVED:
                raise MigrationCompleted(
                    f"machine {ticket.name} runs on {ticket.peer}; finish the migration",
                    migration=ticket.migration,
                    vm=ticket.vm,
                )
            raise sight.unknown(ticket, host, "it is on both hosts; migrateVm, sent once more, settles what it can")
        if not here.active and isinstance(sight.there, AgentError):
            raise sight.unknown(ticket, host, "it is not here to be kept")
    with attempt.step("go on", changes=True) as step:
        if here.standing != "paused" or not here.by_migration:
            step.already()
            return
        _refuse_other_writers(ticket, sight, host, deadline)
        log.warning("machine goes on", vm=ticket.vm, why="left standing still by a migration that is rolled back")
        host.domains.resume(ticket.vm, deadline)
        after = host.domains.standing(ticket.vm, deadline)
        if after.standing != "running":
            raise both_hosts.look(ticket, host).unknown(ticket, host, "it was to go on here, and does not run")


def _refuse_other_writers(ticket: Ticket, sight: both_hosts.Sight, host: Host, deadline: Deadline) -> None:
    """A machine elsewhere that cannot write to any of its disks is none; where it has none, its libvirt has to say."""
    written = [disk.global_id for disk in ticket.disks if disk.mode == "rw"]
    elsewhere = _writers_elsewhere(host.storpool.attachments(deadline), host)
    held = [global_id for global_id in written if global_id in elsewhere]
    if held:
        clients = sorted({client for global_id in held for client in elsewhere[global_id]})
        raise sight.unknown(
            ticket,
            host,
            f"{', '.join(held)} is attached rw to client {', '.join(map(str, clients))}, too: roll back there first",
        )
    if isinstance(sight.there, AgentError) and not written:
        raise sight.unknown(ticket, host, f"{ticket.peer} does not say that it has not got it")


def _writers_elsewhere(attachments: Sequence[Attachment], host: Host) -> dict[str, list[int]]:
    """Global id to the other clients that have it rw."""
    found: dict[str, list[int]] = {}
    for one in attachments:
        if one.client != host.storpool.our_id and one.mode == "rw":
            found.setdefault(one.global_id, []).append(one.client)
    return found


# both


def _close(ticket: Ticket, host: Host, attempt: Attempt, *, back: bool = False) -> None:
    state: TicketState = "rolled-back" if back else "finished"
    with attempt.step("close", changes=True):
        attempt.tickets.close(ticket.migration, ticket.vm, state)
    log.info("migration ended", migration=ticket.migration, vm=ticket.vm, role=ticket.role, state=state, on=host.name)


def _ids(ticket: Ticket) -> list[str]:
    return [disk.global_id for disk in ticket.disks]


def _over(ticket: Ticket) -> MigrationOver:
    return MigrationOver(
        f"migration {ticket.migration} is {ticket.state} on this host", migration=ticket.migration, state=ticket.state
    )


def _not_yet(ticket: Ticket, what: str, here: Presence | AgentError) -> MigrationUnderWay:
    return MigrationUnderWay(what, migration=ticket.migration, vm=ticket.vm, here=both_hosts.said(here))


def _unclear(ticket: Ticket, host: Host, here: Presence, what: str) -> MigrationUnknown:
    """Of the destination, which cannot ask the source."""
    return MigrationUnknown(
        f"machine {ticket.name} on {host.name}: {what}",
        migration=ticket.migration,
        vm=ticket.vm,
        source=ticket.peer,
        destination=host.name,
        on_destination=str(here),
    )
