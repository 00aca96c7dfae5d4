# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""takeSnapshot, deleteSnapshot, deleteTemplate."""

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.handlers import connecting, finding, releasing
from storpool_agent.host import Host, StorPool
from storpool_agent.storpool.model import NewSnapshot, Volume
from storpool_commands.references import ID_DIRECTORY, parse
from storpool_commands.snapshots import (
    DeletedSnapshot,
    DeletedTemplate,
    DeleteSnapshot,
    DeleteTemplate,
    TakenSnapshot,
    TakeSnapshot,
)

API_TIMEOUT_S = 60.0
DELETE_NOTE = "delete"
KIND = "snapshot"


def take(command: TakeSnapshot, host: Host, attempt: Attempt) -> TakenSnapshot:
    """Take a snapshot, once for a request however often that is run."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        volume = storpool.volume(parse(command.volume), deadline)
    wanted = NewSnapshot(command.name, command.all_tags(KIND), command.delete_after_s)
    with attempt.step("take", changes=True):
        taken = storpool.take_snapshot(volume, wanted, attempt.request_id, deadline, look_first=attempt.may_have_run)
    return TakenSnapshot(
        global_id=taken.global_id,
        name=taken.name,
        path=f"{ID_DIRECTORY}{taken.global_id}",
        volume=volume.global_id,
        size_bytes=taken.size_bytes,
        tags=dict(taken.tags),
    )


def delete(command: DeleteSnapshot, host: Host, attempt: Attempt) -> DeletedSnapshot:
    """Delete a snapshot that is attached nowhere."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    snapshot = _find(command.snapshot, storpool, attempt, deadline)
    if snapshot is None:
        return DeletedSnapshot(global_id=None, deleted_now=attempt.noted(DELETE_NOTE, command.snapshot))
    releasing.free(snapshot, command, host, storpool, attempt, deadline)
    _delete(command.snapshot, snapshot, storpool, attempt, deadline)
    return DeletedSnapshot(global_id=snapshot.global_id, deleted_now=True)


def delete_template(command: DeleteTemplate, host: Host, attempt: Attempt) -> DeletedTemplate:
    """Delete the snapshot of a template, never by force: an attached one is being copied."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    snapshot = _find(command.snapshot, storpool, attempt, deadline)
    if snapshot is None:
        return DeletedTemplate(global_id=None, deleted_now=attempt.noted(DELETE_NOTE, command.snapshot))
    with attempt.step("check"):
        connecting.refuse_jobs(snapshot, attempt)
        clients = releasing.clients_of([snapshot], storpool, deadline)
        releasing.refuse_attached(snapshot, clients[snapshot.global_id])
    _delete(command.snapshot, snapshot, storpool, attempt, deadline)
    return DeletedTemplate(global_id=snapshot.global_id, deleted_now=True)


def _find(reference: str, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> Volume | None:
    """None also when an earlier run has deleted it and the name is another's since."""
    with attempt.step("find"):
        snapshot = finding.snapshot_or_none(reference, storpool, deadline)
    if snapshot is None or finding.is_another(DELETE_NOTE, reference, snapshot, attempt):
        return None
    return snapshot


def _delete(reference: str, snapshot: Volume, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> None:
    """The note lets a later run of this request tell that it has deleted the snapshot."""
    finding.note(DELETE_NOTE, reference, snapshot, attempt)
    with attempt.step("delete", changes=True):
        storpool.delete_volume(snapshot, deadline)
