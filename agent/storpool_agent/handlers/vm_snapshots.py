# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""takeVMSnapshot and deleteVMSnapshot."""

from collections.abc import Sequence

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Domain
from storpool_agent.errors import AgentError, Cancelled, DeleteIncomplete, DiskNotFound, InvalidCommand
from storpool_agent.handlers import connecting, finding, quiescing
from storpool_agent.handlers.group import Group
from storpool_agent.host import Host, StorPool
from storpool_agent.storpool.model import NewSnapshot, Volume
from storpool_commands.labels import KIND, UUID, VM
from storpool_commands.references import parse
from storpool_commands.vm_snapshots import (
    Consistency,
    DeletedVmSnapshot,
    DeleteVmSnapshot,
    DiskSnapshot,
    TakenVmSnapshot,
    TakeVmSnapshot,
)

API_TIMEOUT_S = 60.0
GROUP = "group"
"""The tag `cs` of the snapshots, as StorPool's plugin for Apache CloudStack sets it."""
DELETE_NOTE = "delete"


def take(command: TakeVmSnapshot, host: Host, attempt: Attempt) -> TakenVmSnapshot:
    """Take snapshots of all volumes at one moment; a failure leaves none of them behind."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        volumes = _volumes(command, storpool, deadline)
        domain = None if command.vm is None else _machine(command.vm, volumes, host, deadline)
    group = Group(storpool, volumes, NewSnapshot(tags=_tags(command)), attempt)
    if domain is None:
        return _taken(volumes, group.take_once(deadline), "crash")
    quiescing.thaw_left(domain, host, attempt)
    if command.quiesce == "try" and group.earlier:
        # That group may have been taken while the guest was frozen, or after it had been thawed.
        why = "the agent died after it had frozen the guest; in which state the snapshots were taken is not known"
        return _taken(volumes, group.take_once(deadline), "crash", not_frozen=why)
    group.discard_earlier(deadline)
    outcome = quiescing.take(group, domain, command.freeze_timeout_s, host, attempt)
    if outcome.snapshots is not None and outcome.shortfall is None:
        return _taken(volumes, outcome.snapshots, "file-system", outcome.frozen_ms)
    if command.quiesce == "require" and outcome.shortfall is not None:
        if outcome.may_be_taken:
            group.discard()
        raise outcome.shortfall
    snapshots = outcome.snapshots or group.take_after_all(Deadline.after(API_TIMEOUT_S))
    return _taken(volumes, snapshots, "crash", outcome.frozen_ms, str(outcome.shortfall))


def delete(command: DeleteVmSnapshot, host: Host, attempt: Attempt) -> DeletedVmSnapshot:
    """Delete all that are there; one that cannot be deleted does not keep the others."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        found = {text: _left(text, storpool, attempt, deadline) for text in command.snapshots}
    deleted = [text for text, one in found.items() if one is None and attempt.noted(DELETE_NOTE, text)]
    missing = [text for text, one in found.items() if one is None and text not in deleted]
    failures: dict[str, AgentError] = {}
    for text, snapshot in found.items():
        if snapshot is None:
            continue
        try:
            with attempt.step("delete", changes=True):
                finding.note(DELETE_NOTE, text, snapshot, attempt)
                storpool.delete_volume(snapshot, deadline)
        except Cancelled:
            raise
        except AgentError as error:
            failures[text] = error
        else:
            deleted.append(text)
    if failures:
        raise DeleteIncomplete(
            f"not deleted: {'; '.join(f'{text} ({error})' for text, error in failures.items())}; send it again when "
            "what is said there is mended",
            left=list(failures),
            codes=[error.code.value for error in failures.values()],
            deleted=deleted,
            missing=missing,
        )
    return DeletedVmSnapshot(deleted=deleted, missing=missing)


def _volumes(command: TakeVmSnapshot, storpool: StorPool, deadline: Deadline) -> list[Volume]:
    """Raises VolumeNotFound; InvalidCommand when two names are of one volume."""
    volumes = [storpool.volume(parse(text), deadline) for text in command.volumes]
    if len({each.global_id for each in volumes}) < len(volumes):
        raise InvalidCommand("volumes: two of the references are of one volume; name each once")
    return volumes


def _machine(vm: str, volumes: Sequence[Volume], host: Host, deadline: Deadline) -> Domain:
    """A machine whose disks these are: to freeze another would be of no use, and look as if it were.

    Raises VmNotFound, DiskNotFound. One that is off is left to `freeze` to refuse.
    """
    domain = host.domains.find(vm, deadline)
    for volume in volumes:
        disks = connecting.machines_with(volume, host, deadline)
        if not any(disk.domain.uuid == domain.uuid and disk.live >= domain.running for disk in disks):
            raise DiskNotFound(
                f"volume {volume.global_id} is no disk of {domain.name}: its guest cannot be frozen for it; name the "
                "machine that has it, or send quiesce: no",
                volume=volume.global_id,
                vm=domain.uuid,
            )
    return domain


def _tags(command: TakeVmSnapshot) -> dict[str, str]:
    named = {UUID: command.uuid, VM: command.vm_uuid, KIND: GROUP}
    return {**command.tags, **{name: value for name, value in named.items() if value is not None}}


def _taken(
    volumes: Sequence[Volume],
    snapshots: Sequence[Volume],
    consistency: Consistency,
    frozen_ms: float | None = None,
    not_frozen: str | None = None,
) -> TakenVmSnapshot:
    pairs = zip(volumes, snapshots, strict=True)
    return TakenVmSnapshot(
        snapshots=[
            DiskSnapshot(volume=volume.global_id, snapshot=taken.global_id, size_bytes=taken.size_bytes)
            for volume, taken in pairs
        ],
        consistency=consistency,
        frozen_ms=frozen_ms,
        not_frozen=not_frozen,
    )


def _left(text: str, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> Volume | None:
    """None also when an earlier attempt has deleted it and the name is another's since."""
    snapshot = finding.snapshot_or_none(text, storpool, deadline)
    if snapshot is None or finding.is_another(DELETE_NOTE, text, snapshot, attempt):
        return None
    return snapshot
