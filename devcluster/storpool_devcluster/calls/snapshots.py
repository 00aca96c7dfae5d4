# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls on snapshots."""

import time
from dataclasses import replace

from pydantic import Field

from storpool_devcluster import answers, expiry
from storpool_devcluster.answers import Json
from storpool_devcluster.calls import shapes
from storpool_devcluster.calls.bodies import Appointment, PolicyBody, merged_tags
from storpool_devcluster.calls.call import Call, Nothing, Query, ok
from storpool_devcluster.calls.shapes import Shape
from storpool_devcluster.calls.volume_reads import describe_members, info_members, space_members
from storpool_devcluster.cloning import make_snapshot
from storpool_devcluster.names import SnapshotName, Tags, TemplateName, check_reference
from storpool_devcluster.records import Volume


class VolumeSnapshot(Appointment):
    name: SnapshotName = ""
    bind: bool = False
    tags: Tags = Field(default_factory=dict)


class SnapshotUpdate(PolicyBody, Appointment):
    rename: SnapshotName | None = None
    template: TemplateName | None = None
    bind: bool | None = None


def create(call: Call[VolumeSnapshot]) -> Json:
    body, cluster = call.body, call.cluster
    with cluster.state.change():
        volume = cluster.state.volume(check_reference(call.arg))
        cluster.state.require_free(body.name)
        snapshot = make_snapshot(
            cluster,
            volume,
            name=body.name,
            tags=merged_tags({}, body.tags),
            auto_name=not body.name,
            bound=body.bind,
            delete_at_s=body.delete_at_s(int(time.time())),
        )
    auto_name: dict[str, Json] = {"autoName": snapshot.name} if snapshot.auto_name else {}
    return ok(cluster, snapshotGlobalId=snapshot.gid, snapshotVisibleVolumeId=snapshot.number, **auto_name)


def update(call: Call[SnapshotUpdate]) -> Json:
    body, cluster = call.body, call.cluster
    with cluster.state.change():
        before = cluster.state.snapshot(check_reference(call.arg))
        if body.rename is not None and body.rename != before.name:
            cluster.state.require_free(body.rename)
        template = cluster.state.template(body.template) if body.template else None
        after = replace(
            before,
            name=before.name if body.rename is None else body.rename,
            auto_name=before.auto_name and body.rename is None,
            template=template.name if template else before.template,
            policy=body.policy_over(template.policy if template else before.policy),
            tags=merged_tags(before.tags, body.tags),
            bound=before.bound if body.bind is None else body.bind,
            delete_at_s=body.delete_at_s(int(time.time()), before.delete_at_s),
        )
        cluster.state.put(after)
        for client in cluster.state.attachments_of(after.gid):
            cluster.devices.link(after, client)
        expiry.collect(cluster, after)
    return ok(cluster)


def delete(call: Call[Nothing]) -> Json:
    return _delete(call, check_reference(call.arg))


def delete_by_id(call: Call[Nothing]) -> Json:
    return _delete(call, f"~{call.arg}")


def list_all(call: Call[Nothing]) -> Json:
    return [_shape(call, item) for item in _all(call)]


def list_one(call: Call[Nothing]) -> Json:
    return [_shape(call, _snapshot(call))]


def describe(call: Call[Nothing]) -> Json:
    return _shape(call, _snapshot(call)) | describe_members()


def info(call: Call[Nothing]) -> Json:
    snapshot = _snapshot(call)
    return _shape(call, snapshot) | info_members(snapshot)


def space(call: Call[Nothing]) -> Json:
    return [_shape(call, item) | space_members(call, item) for item in _all(call)]


def _all(call: Call[Nothing]) -> list[Volume]:
    return [item for item in call.cluster.state.volumes.all() if item.snapshot and call.lists(item.gid)]


def _delete(call: Call[Nothing], reference: str) -> Json:
    """[I] An attached snapshot is `busy`; [U] one that is exported is refused with this text, [X] by this name."""
    cluster = call.cluster
    with cluster.state.change():
        snapshot = cluster.state.snapshot(reference)
        if cluster.state.attachments_of(snapshot.gid):
            raise answers.busy(f"Snapshot '{snapshot.label}' is attached")
        if snapshot.exported_to:
            raise answers.busy(f"Snapshot '{snapshot.label}' is still exported to {', '.join(snapshot.exported_to)}")
        expiry.delete_snapshot(cluster, snapshot)
    return ok(cluster)


def _snapshot(call: Call[Nothing]) -> Volume:
    """Also one that is being deleted, as long as it is listed."""
    reference = check_reference(call.arg)
    found = call.cluster.state.find(reference)
    if found is None or not found.snapshot:
        raise answers.missing("Snapshot", reference)
    return found


def _shape(call: Call[Nothing], item: Volume) -> Shape:
    return shapes.volume(call.cluster, item, multi_cluster=call.multi_cluster)


QUERIES = (
    Query("VolumeSnapshot", "POST", create, VolumeSnapshot, takes_arg=True),
    Query("SnapshotUpdate", "POST", update, SnapshotUpdate, takes_arg=True),
    Query("SnapshotDelete", "POST", delete, takes_arg=True),
    Query("SnapshotDeleteById", "POST", delete_by_id, takes_arg=True),
    Query("SnapshotsList", "GET", list_all),
    Query("Snapshot", "GET", list_one, takes_arg=True),
    Query("SnapshotDescribe", "GET", describe, takes_arg=True),
    Query("SnapshotGetInfo", "GET", info, takes_arg=True),
    Query("SnapshotsSpace", "GET", space),
)
