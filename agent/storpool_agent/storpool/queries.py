# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The calls of the API that the agent makes."""

from collections.abc import Sequence

from storpool_agent.deadline import Deadline
from storpool_agent.storpool.answers import (
    AttachmentAnswer,
    ClientAnswer,
    CreatedAnswer,
    Done,
    Envelope,
    VolumeAnswer,
)
from storpool_agent.storpool.api import Query
from storpool_agent.storpool.model import NewVolume, Volume, VolumeChange
from storpool_agent.storpool.requests import Reassigned, ReassignWait, VolumeCreate, VolumeUpdate, limit
from storpool_commands.references import Reference

ATTACH_S = 20  # that StorPool waits for a client to take a volume: a working one needs milliseconds
ANSWER_S = 15.0  # that its answer may take beyond that
MARGIN_S = 1  # StorPool gives up this much before we do, so that its reason arrives

_VOLUMES = Envelope[list[VolumeAnswer]]
_ATTACHMENTS = Envelope[list[AttachmentAnswer]]
_CREATED = Envelope[CreatedAnswer]
_CLIENTS = Envelope[list[ClientAnswer] | ClientAnswer]
_DONE = Envelope[Done]


def lookup(reference: Reference, *, snapshot: bool) -> Query[list[VolumeAnswer]]:
    name = "MultiCluster/Snapshot" if snapshot else "MultiCluster/Volume"
    return Query("GET", name, _VOLUMES, str(reference))


def volumes() -> Query[list[VolumeAnswer]]:
    return Query("GET", "MultiCluster/VolumesList", _VOLUMES)


def attachments() -> Query[list[AttachmentAnswer]]:
    return Query("GET", "MultiCluster/AttachmentsList", _ATTACHMENTS)


def reassign(items: Sequence[Reassigned], deadline: Deadline) -> Query[Done]:
    attach_s = min(ATTACH_S, max(1, int(deadline.remaining_s) - MARGIN_S))
    body = ReassignWait(reassign=tuple(items), attach_timeout=attach_s)
    return Query("POST", "MultiCluster/VolumesReassignWait", _DONE, body=body, longest_s=attach_s + ANSWER_S)


def create(wanted: NewVolume, tags: dict[str, str]) -> Query[CreatedAnswer]:
    body = VolumeCreate(
        size=wanted.size_bytes,
        template=wanted.template,
        name=wanted.name,
        tags=tags,
        iops=limit(wanted.iops),
        bw=limit(wanted.bandwidth_kib_sec),
    )
    return Query("POST", "MultiCluster/VolumeCreate", _CREATED, body=body, repeatable=False)


def update(volume: Volume, change: VolumeChange) -> Query[Done]:
    body = VolumeUpdate(
        size=change.size_bytes,
        shrink_ok=change.shrink_ok or None,
        iops=limit(change.iops),
        template=change.template,
        tags=dict(change.tags) or None,
    )
    return Query("POST", "MultiCluster/VolumeUpdate", _DONE, str(volume.reference), body)


def delete(volume: Volume) -> Query[Done]:
    """Without `onAttached`: StorPool then refuses while it is attached."""
    name = "MultiCluster/SnapshotDelete" if volume.snapshot else "MultiCluster/VolumeDelete"
    return Query("POST", name, _DONE, str(volume.reference))


def client_config_wait(client: int) -> Query[list[ClientAnswer] | ClientAnswer]:
    """StorPool has no MultiCluster form of it."""
    return Query("GET", "ClientConfigWait", _CLIENTS, str(client))
