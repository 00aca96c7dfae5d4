# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The calls of the API that the agent makes."""

from collections.abc import Sequence
from urllib.parse import quote

from storpool_agent.deadline import Deadline
from storpool_agent.storpool.answers import (
    AttachmentAnswer,
    ClientAnswer,
    CreatedAnswer,
    Done,
    Envelope,
    GroupTakenAnswer,
    ServicesAnswer,
    TakenAnswer,
    TemplateAnswer,
    TemplateStatusAnswer,
    VolumeAnswer,
)
from storpool_agent.storpool.api import Query
from storpool_agent.storpool.model import NewSnapshot, NewVolume, Volume, VolumeChange, inherited
from storpool_agent.storpool.requests import (
    OfGroup,
    Reassigned,
    ReassignWait,
    VolumeCreate,
    VolumeRevert,
    VolumesGroupSnapshot,
    VolumeSnapshot,
    VolumeUpdate,
    limit,
)
from storpool_commands.references import Reference

ATTACH_S = 20  # that StorPool waits for a client to take a volume: a working one needs milliseconds
ANSWER_S = 15.0  # that its answer may take beyond that
MARGIN_S = 1  # StorPool gives up this much before we do, so that its reason arrives

_VOLUMES = Envelope[list[VolumeAnswer]]
_ATTACHMENTS = Envelope[list[AttachmentAnswer]]
_CREATED = Envelope[CreatedAnswer]
_TAKEN = Envelope[TakenAnswer]
_GROUP_TAKEN = Envelope[GroupTakenAnswer]
_TEMPLATES = Envelope[list[TemplateAnswer]]
_TEMPLATES_STATUS = Envelope[list[TemplateStatusAnswer]]
_SERVICES = Envelope[ServicesAnswer]
_CLIENTS = Envelope[list[ClientAnswer] | ClientAnswer]
_DONE = Envelope[Done]


def lookup(reference: Reference, *, snapshot: bool) -> Query[list[VolumeAnswer]]:
    name = "MultiCluster/Snapshot" if snapshot else "MultiCluster/Volume"
    return Query("GET", name, _VOLUMES, str(reference))


def volumes(cluster_id: str | None = None) -> Query[list[VolumeAnswer]]:
    """Of the whole multi-cluster, or of one cluster in it."""
    return Query("GET", f"{_prefix(cluster_id)}VolumesList", _VOLUMES)


def snapshots() -> Query[list[VolumeAnswer]]:
    """With those that are being deleted, and those that StorPool made for itself."""
    return Query("GET", "MultiCluster/SnapshotsList", _VOLUMES)


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
        parent=str(wanted.parent.reference) if wanted.parent else None,
        base_on=str(wanted.base_on.reference) if wanted.base_on else None,
        tags=tags,
        iops=limit(wanted.iops),
        bw=limit(wanted.bandwidth_kib_sec),
    )
    return Query("POST", f"{_prefix(wanted.cluster_id)}VolumeCreate", _CREATED, body=body, repeatable=False)


def update(volume: Volume, change: VolumeChange) -> Query[Done]:
    body = VolumeUpdate(
        size=change.size_bytes,
        shrink_ok=change.shrink_ok or None,
        iops=limit(change.iops),
        bw=limit(change.bandwidth_kib_sec),
        template=change.template,
        tags=dict(change.tags) or None,
    )
    return Query("POST", "MultiCluster/VolumeUpdate", _DONE, str(volume.reference), body)


def snapshot(volume: Volume, wanted: NewSnapshot, tags: dict[str, str]) -> Query[TakenAnswer]:
    body = VolumeSnapshot(name=wanted.name, delete_after=wanted.delete_after_s, tags=tags)
    return Query("POST", "MultiCluster/VolumeSnapshot", _TAKEN, str(volume.reference), body, repeatable=False)


def group_snapshot(volumes: Sequence[Volume], tags: dict[str, str]) -> Query[GroupTakenAnswer]:
    each_of = (OfGroup(volume=str(each.reference), tags=inherited(each) or None) for each in volumes)
    body = VolumesGroupSnapshot(volumes=tuple(each_of), tags=tags)
    return Query("POST", "MultiCluster/VolumesGroupSnapshot", _GROUP_TAKEN, body=body, repeatable=False)


def revert(volume: Volume, to: Volume, *, revert_size: bool) -> Query[Done]:
    """Not repeatable as such: what was written since the first one would be lost."""
    body = VolumeRevert(to_snapshot=str(to.reference), revert_size=revert_size or None)
    return Query("POST", "MultiCluster/VolumeRevert", _DONE, str(volume.reference), body, repeatable=False)


def delete(volume: Volume) -> Query[Done]:
    """Without `onAttached`: StorPool then refuses while it is attached."""
    name = "MultiCluster/SnapshotDelete" if volume.snapshot else "MultiCluster/VolumeDelete"
    return Query("POST", name, _DONE, str(volume.reference))


def client_config_wait(client: int) -> Query[list[ClientAnswer] | ClientAnswer]:
    """StorPool has no MultiCluster form of it."""
    return Query("GET", "ClientConfigWait", _CLIENTS, str(client))


def templates(cluster_id: str | None = None) -> Query[list[TemplateAnswer]]:
    """StorPool has no MultiCluster form of it, nor of those below."""
    return Query("GET", f"{_remote(cluster_id)}VolumeTemplatesList", _TEMPLATES)


def templates_status() -> Query[list[TemplateStatusAnswer]]:
    return Query("GET", "VolumeTemplatesStatus", _TEMPLATES_STATUS)


def services() -> Query[ServicesAnswer]:
    return Query("GET", "ServicesList", _SERVICES)


def _prefix(cluster_id: str | None) -> str:
    return _remote(cluster_id) or "MultiCluster/"


def _remote(cluster_id: str | None) -> str:
    """Has the cluster of the API pass the call on."""
    return "" if cluster_id is None else f"RemoteCommand/~{quote(cluster_id, safe='')}/"
