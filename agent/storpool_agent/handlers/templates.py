# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""downloadTemplate, createTemplateFromVolume, createTemplateFromSnapshot.

A template at StorPool is a snapshot that volumes are made from; on secondary storage it is a qcow2 with the file
`template.properties` beside it, as Apache CloudStack writes and reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import basename, dirname
from typing import TypeVar

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.handlers import backups, downloads, temporaries, unlocking
from storpool_agent.handlers.copying import API_TIMEOUT_S, Copy, FileFormat, Stored, Verified
from storpool_agent.host import Host, Pool
from storpool_agent.storpool.model import NewSnapshot, NewVolume, Volume
from storpool_commands.copies import (
    CreateTemplateFromSnapshot,
    CreateTemplateFromVolume,
    DownloadedTemplate,
    DownloadTemplate,
    StoredCopy,
    TemplateFromSnapshot,
    TemplateFromVolume,
)
from storpool_commands.images import ImageSource
from storpool_commands.labels import KIND, POLICY
from storpool_commands.references import ID_DIRECTORY, parse

TEMPLATE = "template"
PROPERTIES = "template.properties"

T = TypeVar("T", CreateTemplateFromVolume, CreateTemplateFromSnapshot)


def download(command: DownloadTemplate, host: Host, attempt: Attempt) -> DownloadedTemplate:
    """Fill a volume that nobody can use, and take the snapshot when its contents are verified."""
    pool = host.pools.get(command.pool)
    copy = Copy(command, host, attempt)
    with temporaries.of(host, attempt):
        snapshot, verified = _cached(copy, pool, command, command.source, command.max_size_bytes)
        _keep(snapshot, pool, attempt)
    return DownloadedTemplate.model_validate({**_described(snapshot), **downloads.copied(verified)})


def from_volume(command: CreateTemplateFromVolume, host: Host, attempt: Attempt) -> TemplateFromVolume:
    """The template is a snapshot taken now; it is deleted again when the file cannot be written."""
    deadline = Deadline.after(API_TIMEOUT_S)
    pool = host.pools.get(command.pool)
    with temporaries.of(host, attempt):
        with attempt.step("find"):
            volume = pool.storpool.volume(parse(command.volume), deadline)
            if command.target is not None:
                unlocking.refuse_copying(volume)
        snapshot = _snapshot(volume, command, pool, attempt, deadline)
        file = _to_secondary(Copy(command, host, attempt), snapshot, command)
        _keep(snapshot, pool, attempt, file)
    described = file.described if file else None
    return TemplateFromVolume.model_validate({**_described(snapshot), "file": described, "volume": volume.global_id})


def from_snapshot(command: CreateTemplateFromSnapshot, host: Host, attempt: Attempt) -> TemplateFromSnapshot:
    """Of a snapshot at StorPool nothing is copied there: the template is a child of it, and outlives it."""
    deadline = Deadline.after(API_TIMEOUT_S)
    pool = host.pools.get(command.pool)
    copy = Copy(command, host, attempt)
    with temporaries.of(host, attempt):
        if command.source is not None:
            origin = None
            snapshot, _ = _cached(copy, pool, command, command.source, None)
        else:
            with attempt.step("find"):
                origin = pool.storpool.snapshot(parse(command.snapshot or ""), deadline)
                if command.target is not None:
                    unlocking.refuse_copying(origin)
            snapshot = _child(origin, command, copy, pool, deadline)
        file = _to_secondary(copy, snapshot, command)
        _keep(snapshot, pool, attempt, file)
    described = file.described if file else None
    return TemplateFromSnapshot.model_validate(
        {**_described(snapshot), "file": described, "snapshot": origin.global_id if origin else None}
    )


def _cached(
    copy: Copy,
    pool: Pool,
    command: DownloadTemplate | CreateTemplateFromSnapshot,
    source: ImageSource,
    max_size_bytes: int | None,
) -> tuple[Volume, Verified]:
    """The snapshot of an image; the volume that it is taken of goes when the job ends."""
    attempt, deadline = copy.attempt, Deadline.after(API_TIMEOUT_S)
    done = copy.earlier_volume()
    taken = backups.taken_before(pool.name, pool.storpool, attempt, deadline)
    if done is not None and taken is not None:
        return taken, done
    wanted = NewVolume(
        size_bytes=0,
        template=downloads.template_of(pool, command.template),
        cluster_id=pool.cluster_id if isinstance(command, CreateTemplateFromSnapshot) else command.cluster_id,
        tags={KIND: backups.TEMPORARY, POLICY: "no"},
    )
    filled = downloads.fill(copy, pool, source, max_size_bytes, wanted)
    volume = downloads.release(filled.volume, pool, attempt, deadline)
    snapshot = _snapshot(volume, command, pool, attempt, Deadline.after(API_TIMEOUT_S))
    return snapshot, filled.verified


def _child(origin: Volume, command: CreateTemplateFromSnapshot, copy: Copy, pool: Pool, deadline: Deadline) -> Volume:
    """A snapshot of a volume made from the snapshot: both share its data."""
    taken = backups.taken_before(pool.name, pool.storpool, copy.attempt, deadline)
    if taken is not None:
        return taken
    wanted = NewVolume(
        size_bytes=origin.size_bytes,
        template=None,
        parent=origin,
        tags={KIND: backups.TEMPORARY, POLICY: "no"},
    )
    volume = downloads.create(copy, pool, wanted)
    return _snapshot(volume, command, pool, copy.attempt, deadline)


def _snapshot(
    volume: Volume, command: DownloadTemplate | T, pool: Pool, attempt: Attempt, deadline: Deadline
) -> Volume:
    wanted = NewSnapshot(command.name, command.all_tags(TEMPLATE))
    return backups.take_snapshot(pool.name, pool.storpool, volume, wanted, attempt, deadline)


def _keep(snapshot: Volume, pool: Pool, attempt: Attempt, file: "_File | None" = None) -> None:
    """The template is made: all of it stays, or none."""
    at_storpool = (temporaries.SNAPSHOT, temporaries.pair(pool.name, snapshot.global_id))
    attempt.all_stay(at_storpool, *(file.made if file else ()))


def _to_secondary(copy: Copy, snapshot: Volume, command: T) -> "_File | None":
    if command.target is None:
        return None
    how = FileFormat("qcow2", command.compress)
    stored = backups.to_store(copy, snapshot, command.target, how)
    name = basename(command.target.path)
    properties = _properties(name, command.unique_name or name, stored)
    place = f"{dirname(command.target.path)}/{PROPERTIES}".removeprefix("/")
    text = temporaries.text_of(command.target.store, place, properties)
    with copy.attempt.step("properties", changes=True, always=True):
        copy.attempt.making(temporaries.TEXT, text)
        copy.host.secondary.write_text(command.target.store, place, properties)
    described = StoredCopy.model_validate(backups.file_described(stored, command.target, how))
    return _File(described, ((temporaries.FILE, stored.made), (temporaries.TEXT, text)))


@dataclass(frozen=True)
class _File:
    """A template on secondary storage."""

    described: StoredCopy
    made: Sequence[tuple[str, str]]
    """The rows that are to stay with the template."""


def _properties(file_name: str, unique_name: str, stored: Stored) -> str:
    """What Apache CloudStack's TemplateLocation reads."""
    size, virtual = stored.file_size_bytes, stored.verified.virtual_size_bytes
    values = {
        "id": 1,
        "public": "true",
        "uniquename": unique_name,
        "filename": file_name,
        "size": size,
        "virtualsize": virtual,
        "qcow2": "true",
        "qcow2.filename": file_name,
        "qcow2.size": size,
        "qcow2.virtualsize": virtual,
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _described(snapshot: Volume) -> dict[str, object]:
    return {
        "global_id": snapshot.global_id,
        "name": snapshot.name,
        "path": f"{ID_DIRECTORY}{snapshot.global_id}",
        "size_bytes": snapshot.size_bytes,
        "template": snapshot.template,
        "tags": dict(snapshot.tags),
    }
