# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which objects a command works on: what its turn is taken for."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

from storpool_agent.deadline import Deadline
from storpool_agent.errors import JournalUnavailable, PoolNotFound, SnapshotNotFound, VmNotFound, VolumeNotFound
from storpool_agent.host import Host
from storpool_agent.journal.migrations import Tickets
from storpool_agent.locks import volume_key
from storpool_commands.migration import FinishMigration, MigrationDisk, RollbackMigration
from storpool_commands.references import Reference, parse
from storpool_commands.vm_snapshots import VolumeAndSnapshot

RESOLVE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Named:
    """The objects as the sender spelled them."""

    volumes: tuple[Reference, ...]
    snapshots: tuple[Reference, ...]
    vm: str | None
    pool: str | None
    new_name: str | None
    """What is to be made is going to have it."""

    @property
    def by_name(self) -> frozenset[str]:
        """Keys of what has to be looked up first."""
        keys = {f"name:{each.value}" for each in (*self.volumes, *self.snapshots) if each.kind == "name"}
        if self.new_name is not None:
            keys.add(f"name:{self.new_name}")
        if self.vm is not None and _uuid(self.vm) is None:
            keys.add(f"vm-name:{self.vm}")
        return frozenset(keys)


def named(command: object) -> Named:
    """Read off the fields that every command calls the same."""
    fields = vars(command)
    disks: Sequence[VolumeAndSnapshot | MigrationDisk | str] = fields.get("disks") or ()
    volumes = [fields.get("volume"), fields.get("path"), *(fields.get("volumes") or ())]
    volumes += [one if isinstance(one, str) else one.volume for one in disks]
    snapshots = [fields.get("snapshot"), fields.get("source_snapshot"), *(fields.get("snapshots") or ())]
    snapshots += [one.snapshot for one in disks if isinstance(one, VolumeAndSnapshot)]
    return Named(
        tuple(parse(text) for text in volumes if text),
        tuple(parse(text) for text in snapshots if text),
        fields.get("vm"),
        fields.get("pool"),
        None if "pool" not in fields else fields.get("name"),
    )


def with_ticket(objects: Named, command: object, tickets: Tickets) -> Named:
    """The commands that end a migration name it alone: its volumes are in its ticket.

    A journal that cannot be read has no ticket for the handler either, which then does nothing.
    """
    if not isinstance(command, FinishMigration | RollbackMigration):
        return objects
    with suppress(JournalUnavailable):
        if (ticket := tickets.get(str(command.migration))) is not None:
            volumes = tuple(Reference("id", disk.global_id) for disk in ticket.disks)
            return replace(objects, volumes=(*objects.volumes, *volumes))
    return objects


def resolve(objects: Named, host: Host) -> frozenset[str]:
    """The keys by identity, so that every spelling of an object is one lock.

    What does not exist has no key: nobody else works on it, and the handler reports it. Raises the AgentError of
    a look-up that failed: without its lock a command must not run.
    """
    deadline = Deadline.after(RESOLVE_TIMEOUT_S)
    keys: set[str] = set()
    for references, snapshot in ((objects.volumes, False), (objects.snapshots, True)):
        for reference in references:
            with suppress(VolumeNotFound, SnapshotNotFound, PoolNotFound):
                keys.add(volume_key(_global_id(reference, snapshot, objects.pool, host, deadline)))
    if objects.vm is not None:
        with suppress(VmNotFound):
            keys.add(f"vm:{_uuid(objects.vm) or host.domains.find(objects.vm, deadline).uuid}")
    return frozenset(keys)


def _global_id(reference: Reference, snapshot: bool, pool: str | None, host: Host, deadline: Deadline) -> str:
    if reference.kind == "id":
        return reference.value
    storpool = host.pools.get(pool).storpool
    look = storpool.snapshot if snapshot else storpool.volume
    return look(reference, deadline).global_id


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None
