# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which objects a command works on: what its turn is taken for."""

from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from storpool_agent.deadline import Deadline
from storpool_agent.errors import SnapshotNotFound, VmNotFound, VolumeNotFound
from storpool_agent.host import Host
from storpool_commands.references import Reference, parse

RESOLVE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Named:
    """The objects as the sender spelled them."""

    volume: Reference | None
    snapshot: bool
    vm: str | None

    @property
    def by_name(self) -> frozenset[str]:
        """Keys of what has to be looked up first."""
        keys: set[str] = set()
        if self.volume is not None and self.volume.kind == "name":
            keys.add(f"name:{self.volume.value}")
        if self.vm is not None and _uuid(self.vm) is None:
            keys.add(f"vm-name:{self.vm}")
        return frozenset(keys)


def named(command: object) -> Named:
    """Read off the fields that every command calls the same."""
    fields = vars(command)
    snapshot = fields.get("snapshot")
    text = snapshot or fields.get("volume") or fields.get("path")
    return Named(parse(text) if text else None, snapshot is not None, fields.get("vm"))


def resolve(objects: Named, host: Host) -> frozenset[str]:
    """The keys by identity, so that every spelling of an object is one lock.

    What does not exist has no key: nobody else works on it, and the handler reports it. Raises the AgentError of
    a look-up that failed: without its lock a command must not run.
    """
    deadline = Deadline.after(RESOLVE_TIMEOUT_S)
    keys: set[str] = set()
    if objects.volume is not None:
        with suppress(VolumeNotFound, SnapshotNotFound):
            keys.add(f"volume:{_global_id(objects.volume, objects.snapshot, host, deadline)}")
    if objects.vm is not None:
        with suppress(VmNotFound):
            keys.add(f"vm:{_uuid(objects.vm) or host.domains.find(objects.vm, deadline).uuid}")
    return frozenset(keys)


def _global_id(reference: Reference, snapshot: bool, host: Host, deadline: Deadline) -> str:
    if reference.kind == "id":
        return reference.value
    look = host.storpool.snapshot if snapshot else host.storpool.volume
    return look(reference, deadline).global_id


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None
