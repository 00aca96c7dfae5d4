# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls on templates."""

from dataclasses import replace
from typing import Any

from storpool_devcluster import answers
from storpool_devcluster.answers import Json
from storpool_devcluster.calls import shapes
from storpool_devcluster.calls.bodies import PolicyBody
from storpool_devcluster.calls.call import Call, Nothing, Query, ok
from storpool_devcluster.cluster import Cluster
from storpool_devcluster.names import Reference, Size, TemplateName
from storpool_devcluster.records import Policy, Template, Volume


class TemplateCreate(PolicyBody):
    name: TemplateName
    parent: Reference | None = None
    size: Size | None = None


class TemplateUpdate(PolicyBody):
    rename: TemplateName | None = None
    parent: Reference | None = None
    size: Size | None = None
    propagate: bool = False


def list_all(call: Call[Nothing]) -> Json:
    return [shapes.template(call.cluster, template) for template in call.cluster.state.templates.all()]


def describe(call: Call[Nothing]) -> Json:
    return shapes.template(call.cluster, call.cluster.state.template(call.arg))


def status(call: Call[Nothing]) -> Json:
    return [_status(call.cluster, template) for template in call.cluster.state.templates.all()]


def create(call: Call[TemplateCreate]) -> Json:
    body, state = call.body, call.cluster.state
    with state.change():
        if state.templates.get(body.name) is not None:
            raise answers.exists(body.name)
        parent = state.snapshot(body.parent).gid if body.parent else ""
        policy = body.policy_over(Policy())
        template = Template(body.name, state.new_template_number(), parent, body.size or "-", policy)
        state.templates.put(template.name, template)
    return ok(call.cluster)


def update(call: Call[TemplateUpdate]) -> Json:
    """Volumes keep their settings unless they are propagated; a new name follows them in any case."""
    body, state = call.body, call.cluster.state
    with state.change():
        before = state.template(call.arg)
        name = body.rename or before.name
        if name != before.name and state.templates.get(name) is not None:
            raise answers.exists(name)
        changes: dict[str, Any] = {"name": name, "policy": body.policy_over(before.policy)}
        if body.parent:
            changes["parent"] = state.snapshot(body.parent).gid
        if body.size:
            changes["size_bytes"] = body.size
        after = replace(before, **changes)
        state.templates.drop(before.name)
        state.templates.put(name, after)
        for volume in _users(call.cluster, before.name):
            state.put(replace(volume, template=name, policy=after.policy if body.propagate else volume.policy))
    return ok(call.cluster)


def delete(call: Call[Nothing]) -> Json:
    """[I] A template in use is `busy`."""
    state = call.cluster.state
    with state.change():
        template = state.template(call.arg)
        if _users(call.cluster, template.name):
            raise answers.busy(f"Template '{template.name}' is in use")
        state.templates.drop(template.name)
    return ok(call.cluster)


def _users(cluster: Cluster, name: str) -> list[Volume]:
    return [volume for volume in cluster.state.volumes.all() if volume.template == name]


def _status(cluster: Cluster, template: Template) -> dict[str, Any]:
    users = _users(cluster, template.name)
    snapshots = [volume for volume in users if volume.snapshot]
    size = sum(volume.size_bytes for volume in users)
    stored = sum(cluster.backing.stored_bytes(volume.gid) for volume in users)
    free, capacity = cluster.backing.free_bytes()
    room = {"free": free, "capacity": capacity}
    shape = shapes.template(cluster, template)
    copies = 1 if template.policy.replication == "-" else template.policy.replication
    return {
        **{key: shape[key] for key in ("id", "name", "placeAll", "placeTail", "placeHead", "replication")},
        "volumesCount": len(users) - len(snapshots),
        "snapshotsCount": len(snapshots),
        "removingSnapshotsCount": sum(snapshot.deleted for snapshot in snapshots),
        "size": size,
        "totalSize": size * copies,
        "onDiskSize": stored * copies,
        "storedSize": stored,
        **{f"available{place}": free for place in ("PlaceAll", "PlaceTail", "PlaceHead")},
        **{f"capacity{place}": capacity for place in ("PlaceAll", "PlaceTail", "PlaceHead")},
        "stored": {**room, "placeAll": room, "placeTail": room, "placeHead": room},
    }


QUERIES = (
    Query("VolumeTemplatesList", "GET", list_all),
    Query("VolumeTemplateDescribe", "GET", describe, takes_arg=True),
    Query("VolumeTemplatesStatus", "GET", status),
    Query("VolumeTemplateCreate", "POST", create, TemplateCreate),
    Query("VolumeTemplateUpdate", "POST", update, TemplateUpdate, takes_arg=True),
    Query("VolumeTemplateDelete", "POST", delete, takes_arg=True),
)
