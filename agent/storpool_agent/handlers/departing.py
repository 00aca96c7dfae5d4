# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""migrateVm: a host sends a running machine to another, and sees it run there.

What libvirt answers is a hint. Whatever it is, the two hosts are looked at until they agree on where the machine is.
"""

from threading import Event
from time import monotonic

import structlog

from storpool_agent import disk_paths
from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Passage, Portrait, Presence, Sent
from storpool_agent.errors import AgentError, DiskConflict, InvalidCommand, VmBusy, VmNotRunning
from storpool_agent.handlers import both_hosts, connecting, tickets
from storpool_agent.handlers.both_hosts import Sight
from storpool_agent.handlers.verdicts import Verdict
from storpool_agent.host import Host
from storpool_agent.interrupt import AgentStopping
from storpool_agent.journal.migrations import Ticket, TicketDisk
from storpool_agent.migration_errors import DestinationUnreachable, MigrationFailed, MigrationUnknown
from storpool_agent.task import Task
from storpool_commands.migration import MigratedVm, MigrateVm
from storpool_commands.references import Reference, parse

CALL_TIMEOUT_S = 60.0
SETTLE_S = 60.0
"""A libvirtd that was restarted answers within seconds, one that died is found dead within 16 s (keepalive)."""
SETTLE_WHEN_STOPPING_S = 10.0
LOOK_AGAIN_S = 0.2
CLEANED_UP_S = 20.0
"""libvirt waits for QEMU to end for up to 15 s before it is killed for good; most often it takes a fraction of one."""
ACT_S = 20.0

log = structlog.get_logger()


def migrate(command: MigrateVm, host: Host, attempt: Attempt) -> MigratedVm:
    """Begin, unless it is under way or has moved; then see to it that it runs on one of the two."""
    ticket = tickets.of(command.migration, command.vm, attempt)
    tickets.refuse_over(ticket)
    tickets.refuse_other_role(ticket, "source")
    if command.destination == host.name:
        raise InvalidCommand(f"destination: this host is {host.name} itself")
    if ticket is None:
        ticket = _begin(command, host, attempt)
    elif ticket.peer != command.destination:
        raise InvalidCommand(f"migration {ticket.migration} is to {ticket.peer}, not to {command.destination}")
    # Not even a cancel keeps it from looking: an earlier run may have left it standing still on the other host.
    with attempt.step("look", always=True):
        moved = _has_moved(ticket, host, attempt)
    sends = not moved
    if sends:
        tickets.refuse_expired(command.migration, command.expires_at)
        with attempt.step("migrate", changes=True, always=True):
            _send(command, ticket, host, attempt)
    with attempt.step("result", always=True):
        sent = _sent(ticket, host)
        _wait_for_libvirt(ticket, host)
    return _done(command, ticket, sent, now=sends)


# its beginning


def _begin(command: MigrateVm, host: Host, attempt: Attempt) -> Ticket:
    """Raises what speaks against it, while nothing has changed."""
    deadline = Deadline.after(CALL_TIMEOUT_S)
    tickets.refuse_expired(command.migration, command.expires_at)
    with attempt.step("machine"):
        connecting.refuse_migrating(attempt, vm=command.vm)
        seen = host.domains.portray(command.vm, deadline)
        if not seen.domain.running or seen.paused:
            state = "paused" if seen.domain.running else "not running"
            raise VmNotRunning(f"{seen.domain.name} is {state}: only a machine that runs is moved", vm=command.vm)
        here = host.domains.standing(command.vm, deadline)
        if here.standing != "running":
            raise VmBusy(f"{seen.domain.name} is {here}, by nobody whom this agent knows", vm=command.vm)
        disks = _disks(command, seen, host, attempt, deadline)
    with attempt.step("destination"):
        there = host.domains.standing(command.vm, deadline, peer=command.destination)
        if there.active:
            raise MigrationUnknown(
                f"{seen.domain.name} runs here, and on {command.destination} it is {there}: find out which is right",
                vm=command.vm,
                source=host.name,
                destination=command.destination,
                on_source=str(here),
                on_destination=str(there),
            )
    with attempt.step("ticket", changes=True):
        return attempt.tickets.open(
            Ticket(
                migration=str(command.migration),
                role="source",
                vm=command.vm,
                name=seen.domain.name,
                peer=command.destination,
                expires_at=command.expires_at.timestamp(),
                disks=disks,
            )
        )


def _disks(
    command: MigrateVm, seen: Portrait, host: Host, attempt: Attempt, deadline: Deadline
) -> tuple[TicketDisk, ...]:
    """The machine's volumes. Raises DiskConflict for one that the destination has not prepared."""
    prepared = {_global_id(reference, host, deadline) for reference in command.disks}
    found: list[TicketDisk] = []
    for disk in seen.disks:
        global_id = disk_paths.global_id(host, disk.path, deadline) if disk.path else None
        if global_id is None:
            continue
        volume = tickets.volume(str(Reference("id", global_id)), host, deadline)
        connecting.refuse_pending(volume, attempt)
        connecting.refuse_migrating(attempt, [volume])
        if global_id not in prepared:
            raise DiskConflict(
                f"{seen.domain.name} has volume {global_id} as {disk.target}, which is not among `disks`; roll back, "
                "and prepare the destination with all that describeMachine says",
                vm=command.vm,
                volume=global_id,
                target=disk.target,
            )
        found.append(TicketDisk(global_id, disk.mode, encrypted=disk.encrypted))
    return tuple(found)


def _global_id(reference: str, host: Host, deadline: Deadline) -> str:
    parsed = parse(reference)
    return parsed.value if parsed.kind == "id" else tickets.volume(reference, host, deadline).global_id


# its way


def _has_moved(ticket: Ticket, host: Host, attempt: Attempt) -> bool:
    """False: it runs here, or is on its way, and may be sent. Raises VmNotRunning when somebody has stopped it."""
    sight = both_hosts.look(ticket, host)
    here = sight.here_again
    if isinstance(here, Presence) and here.standing == "leaving":
        return False
    if sight.judge(has_moved=ticket.moved) is not Verdict.STAYED:
        return _settle(ticket, host, attempt)
    if isinstance(here, Presence) and here.standing != "running":
        raise VmNotRunning(f"{ticket.name} is {here}: only a machine that runs is moved", vm=ticket.vm)
    return False


def _send(command: MigrateVm, ticket: Ticket, host: Host, attempt: Attempt) -> None:
    """Returns when it runs there. Raises why it does not, when it is certain that it is here."""
    why = _sent_off(command, ticket, host, attempt)
    if attempt.plans:
        return
    try:
        if _settle(ticket, host, attempt, stopping=isinstance(why, AgentStopping), ended=why is True):
            return
    except AgentError as error:
        if isinstance(why, AgentStopping):  # the next start goes on with it
            raise why from error
        raise
    log.info("machine stayed", vm=ticket.vm, destination=ticket.peer, reason=str(why))
    if isinstance(why, Exception):
        raise why
    raise MigrationFailed(
        f"{ticket.name} was to move to {ticket.peer}, and runs here still; libvirt does not say why: look at the logs "
        "of libvirtd on both hosts",
        vm=ticket.vm,
        destination=ticket.peer,
    )


def _sent_off(command: MigrateVm, ticket: Ticket, host: Host, attempt: Attempt) -> Exception | bool:
    """What libvirt said, or whether its QEMU has ended here."""
    deadline = Deadline.after(CALL_TIMEOUT_S)
    task = Task(attempt.interrupt, lambda done, total: attempt.report("memory", done, total))
    try:
        passage = Passage(
            vm=ticket.vm,
            name=ticket.name,
            persistent=host.domains.find(ticket.vm, deadline).persistent,
            peer=ticket.peer,
            bandwidth_bytes_s=command.bandwidth_bytes_s,
            auto_converge=command.auto_converge,
            downtime_limit_ms=command.downtime_limit_ms,
        )
        log.info("migrating", vm=ticket.vm, destination=ticket.peer, migration=ticket.migration)
        return host.domains.send(passage, attempt.turns.give_up, task, deadline)
    except (AgentError, AgentStopping) as error:
        return error


# where it is


def _settle(ticket: Ticket, host: Host, attempt: Attempt, *, stopping: bool = False, ended: bool = False) -> bool:
    """Whether it runs on the destination, not here. Raises MigrationUnknown, and MigrationFailed when it stands still.

    The attempt's own end does not end this: the machine may stand still until it has come to an end. `ended`: its QEMU
    has ended here.
    """
    look = both_hosts.look_there if ended else both_hosts.look
    give_up = monotonic() + (SETTLE_WHEN_STOPPING_S if stopping else SETTLE_S)
    pause, before = Event(), None
    while True:
        sight = look(ticket, host)
        verdict = sight.judge(has_moved=ticket.moved)
        if verdict is Verdict.STAYED:
            return False
        if verdict is Verdict.MOVED:
            attempt.tickets.moved(ticket.migration)
            log.info("machine moved", vm=ticket.vm, destination=ticket.peer, migration=ticket.migration)
            return True
        if verdict is Verdict.STRANDED:
            raise _stranded(sight, ticket, host)
        if ended and verdict in (Verdict.UNKNOWN, Verdict.ENDED):  # it has not moved: libvirt may say what became of it
            look, ended = both_hosts.look, False
            continue
        if verdict is Verdict.ENDED:
            raise VmNotRunning(f"{ticket.name} was switched off on the way, and has not moved", vm=ticket.vm)
        if verdict is not Verdict.UNKNOWN and verdict is not before and _act(verdict, ticket, host):
            before = verdict
            continue
        if verdict is Verdict.UNKNOWN or monotonic() >= give_up:
            raise sight.unknown(ticket, host, "where it runs cannot be told")
        before = None
        pause.wait(LOOK_AGAIN_S)


def _act(verdict: Verdict, ticket: Ticket, host: Host) -> bool:
    """One step towards one machine that runs. What came of it is seen by the next look; false: wait a moment first."""
    if verdict is Verdict.WAIT:
        return False
    deadline = Deadline.after(ACT_S)
    try:
        if verdict is Verdict.START_THERE:
            host.domains.resume(ticket.vm, deadline, peer=ticket.peer)
        elif verdict is Verdict.DROP_HERE:
            log.warning("machine removed", vm=ticket.vm, on=host.name, why="all of it is on the other host")
            host.domains.remove(ticket.vm, deadline)
        elif verdict is Verdict.DROP_THERE:
            log.warning("machine removed", vm=ticket.vm, on=ticket.peer, why="it runs here, and has not run there")
            host.domains.remove(ticket.vm, deadline, peer=ticket.peer)
    except AgentError as error:
        log.warning("hand-over step failed", vm=ticket.vm, step=verdict.name.lower(), reason=str(error))
        return False
    return True


def _stranded(sight: Sight, ticket: Ticket, host: Host) -> MigrationFailed:
    return MigrationFailed(
        f"{ticket.name} stands still on {host.name}, as libvirtd was lost on the way, and is not on {ticket.peer}: "
        "roll back, first there, then here, which has it go on",
        vm=ticket.vm,
        destination=ticket.peer,
        on_source=both_hosts.said(sight.here_again),
        on_destination=both_hosts.said(sight.there),
    )


# its result


def _sent(ticket: Ticket, host: Host) -> Sent:
    try:
        return host.domains.sent(ticket.vm, ticket.peer, Deadline.after(ACT_S))
    except DestinationUnreachable as error:
        log.info("migration not measured", vm=ticket.vm, reason=str(error))
        return Sent()


def _wait_for_libvirt(ticket: Ticket, host: Host) -> None:
    """Until it is through with cleaning up behind the machine, so that the next command finds nothing under way."""
    deadline, pause = Deadline.after(CLEANED_UP_S), Event()
    while not deadline.passed:
        try:
            if host.domains.standing(ticket.vm, deadline).standing != "leaving":
                return
        except AgentError as error:
            log.debug("machine not seen", vm=ticket.vm, reason=str(error))
        pause.wait(LOOK_AGAIN_S)


def _done(command: MigrateVm, ticket: Ticket, sent: Sent, *, now: bool) -> MigratedVm:
    return MigratedVm(
        migration=command.migration,
        vm=ticket.vm,
        destination=ticket.peer,
        moved_now=now,
        memory_bytes=sent.memory_bytes,
        downtime_ms=sent.downtime_ms,
        total_ms=sent.total_ms,
    )
