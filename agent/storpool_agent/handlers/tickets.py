# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What every command of a migration asks of its ticket, and of the volumes in it."""

from datetime import datetime
from time import time
from uuid import UUID

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import InvalidCommand, SnapshotNotFound, VolumeNotFound
from storpool_agent.handlers import finding
from storpool_agent.host import Host
from storpool_agent.journal.migrations import Ticket
from storpool_agent.migration_errors import MigrationExpired, MigrationOver
from storpool_agent.storpool.model import Volume
from storpool_commands.migration import Role
from storpool_commands.references import Reference

CLOCKS_DIFFER_S = 5.0
"""The clocks of two hosts that NTP keeps, and what lies between the look at the clock and the beginning."""


def of(migration: UUID, vm: str, attempt: Attempt) -> Ticket | None:
    """Have the attempt act for the migration; its ticket, if it has one. Raises InvalidCommand for another machine."""
    attempt.acts_for(str(migration))
    ticket = attempt.tickets.get(str(migration))
    if ticket is not None and ticket.vm != vm:
        raise InvalidCommand(
            f"migration {migration} is that of machine {ticket.vm}, not of {vm}; take a new id for each", vm=ticket.vm
        )
    return ticket


def refuse_over(ticket: Ticket | None) -> None:
    """Nothing begins any more for a migration that has ended. Raises MigrationOver."""
    if ticket is not None and not ticket.is_open:
        raise MigrationOver(
            f"migration {ticket.migration} is {ticket.state} on this host; begin another, with a new id",
            migration=ticket.migration,
            state=ticket.state,
        )


def refuse_other_role(ticket: Ticket | None, role: Role) -> None:
    """Raises InvalidCommand when this host is at the other end of it."""
    if ticket is not None and ticket.role != role:
        raise InvalidCommand(f"this host is the {ticket.role} of migration {ticket.migration}, not the {role}")


def refuse_expired(migration: UUID, expires_at: datetime) -> None:
    """Raises MigrationExpired, a little before the time."""
    if time() >= expires_at.timestamp() - CLOCKS_DIFFER_S:
        raise MigrationExpired(
            f"migration {migration} has expired, it is not begun; roll it back, begin another with a later expiresAt",
            migration=str(migration),
            expires_at=expires_at.isoformat(),
        )


def volume(reference: str, host: Host, deadline: Deadline) -> Volume:
    """A machine's disk: a volume, or a snapshot that it reads. Raises VolumeNotFound."""
    found = finding.volume_or_none(reference, host.storpool, deadline)
    found = found or finding.snapshot_or_none(reference, host.storpool, deadline)
    if found is None:
        raise VolumeNotFound(f"StorPool has no volume or snapshot {reference}", volume=reference)
    return found


def volumes_of(ticket: Ticket, host: Host, deadline: Deadline) -> list[Volume]:
    """Those of its machine, in the order of the ticket. One that StorPool has no more is known by its id alone."""
    found: list[Volume] = []
    for disk in ticket.disks:
        reference = str(Reference("id", disk.global_id))
        try:
            found.append(volume(reference, host, deadline))
        except (VolumeNotFound, SnapshotNotFound):
            found.append(Volume(disk.global_id, "", 0, snapshot=False))
    return found
