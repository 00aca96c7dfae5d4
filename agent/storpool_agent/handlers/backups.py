# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""backupSnapshot, copyVolumeToSecondary: from StorPool to a file, always of a snapshot, which nobody writes to."""

from contextlib import ExitStack, suppress

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import SnapshotNotFound
from storpool_agent.handlers import copying, temporaries, unlocking
from storpool_agent.handlers.copying import API_TIMEOUT_S, Copy, FileFormat, Stored, closed_after
from storpool_agent.host import Host, StorPool
from storpool_agent.storpool.model import NewSnapshot, Volume
from storpool_commands.copies import BackedUpSnapshot, BackupSnapshot, CopiedVolume, CopyVolumeToSecondary
from storpool_commands.images import StoredImage
from storpool_commands.labels import KIND
from storpool_commands.references import Reference, parse

TEMPORARY = "temporary"


def backup(command: BackupSnapshot, host: Host, attempt: Attempt) -> BackedUpSnapshot:
    """Copy a snapshot to a file. While it is copied, others may work on it, but for detaching and deleting it."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with temporaries.of(host, attempt):
        with attempt.step("find"):
            snapshot = storpool.snapshot(parse(command.snapshot), deadline)
            unlocking.refuse_copying(snapshot)
        how = FileFormat(command.format, command.compress)
        stored = to_store(Copy(command, host, attempt), snapshot, command.target, how)
        attempt.stays(temporaries.FILE, stored.made)
    described = file_described(stored, command.target, how)
    return BackedUpSnapshot.model_validate({**described, "snapshot": snapshot.global_id})


def copy_volume(command: CopyVolumeToSecondary, host: Host, attempt: Attempt) -> CopiedVolume:
    """Copy a volume, in use or not, by a snapshot that is deleted afterwards."""
    deadline = Deadline.after(API_TIMEOUT_S)
    pool = host.pools.get(command.pool)
    with temporaries.of(host, attempt):
        with attempt.step("find"):
            volume = pool.storpool.volume(parse(command.volume), deadline)
            unlocking.refuse_copying(volume)
        wanted = NewSnapshot(tags={KIND: TEMPORARY})
        snapshot = take_snapshot(pool.name, pool.storpool, volume, wanted, attempt, deadline)
        how = FileFormat(command.format, command.compress)
        stored = to_store(Copy(command, host, attempt), snapshot, command.target, how)
        attempt.stays(temporaries.FILE, stored.made)
    return CopiedVolume.model_validate(
        {**file_described(stored, command.target, how), "volume": volume.global_id},
    )


def take_snapshot(
    pool: str, storpool: StorPool, volume: Volume, wanted: NewSnapshot, attempt: Attempt, deadline: Deadline
) -> Volume:
    """One that is deleted when the job ends, unless it is said to stay; the same one in each run of the request."""
    making = temporaries.pair(pool, attempt.request_id)
    with attempt.step("snapshot", changes=True) as step:
        earlier = taken_before(pool, storpool, attempt, deadline)
        if earlier is not None:
            step.earlier()
            return earlier
        attempt.making(temporaries.MAKING_SNAPSHOT, making)
        taken = storpool.take_snapshot(volume, wanted, attempt.request_id, deadline, look_first=attempt.may_have_run)
        attempt.making(temporaries.SNAPSHOT, temporaries.pair(pool, taken.global_id))
        attempt.note(temporaries.SNAPSHOT, taken.global_id)
        attempt.stays(temporaries.MAKING_SNAPSHOT, making)
    return taken


def taken_before(pool: str, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> Volume | None:
    """The snapshot that an earlier run of this request took, if it is still there."""
    for global_id in attempt.notes(temporaries.SNAPSHOT):
        with suppress(SnapshotNotFound):
            taken = storpool.snapshot(Reference("id", global_id), deadline)
            attempt.stays(temporaries.MAKING_SNAPSHOT, temporaries.pair(pool, attempt.request_id))
            return taken
    return None


def to_store(copy: Copy, snapshot: Volume, target: StoredImage, how: FileFormat) -> Stored:
    """Attach it, copy it, detach it."""
    copy.acquire(target.store)
    with ExitStack() as files:
        image = copy.open_device(snapshot, "ro", Deadline.after(API_TIMEOUT_S))
        files.enter_context(closed_after(image.descriptor))
        copy.attempt.turns.give_up()
        return copying.to_file(copy, image, snapshot.size_bytes, target, how)


def file_described(stored: Stored, target: StoredImage, how: FileFormat) -> dict[str, object]:
    """As results show it."""
    return {
        "store": target.store,
        "path": target.path,
        "format": how.format,
        "file_size_bytes": stored.file_size_bytes,
        "virtual_size_bytes": stored.verified.virtual_size_bytes,
        "block_hash": stored.verified.block_hash,
        "copies": stored.verified.copies,
    }
