# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls that make, change and delete volumes.

[I] Shrinking without shrinkOk, a size below the parent's and a volume without any size are `invalidParam`.
[I] VolumeRevert of an attached volume is `busy` (switch: `--revert-attached`), and keeps the volume's limits (switch:
`--revert-resets-limits`).
"""

import time
from dataclasses import replace
from typing import Any

from storpool_devcluster import aftermath, answers, expiry
from storpool_devcluster.answers import Json
from storpool_devcluster.calls import shapes
from storpool_devcluster.calls.bodies import Appointment, OnAttached, PolicyBody, merged_tags
from storpool_devcluster.calls.call import Body, Call, Query, ok
from storpool_devcluster.cloning import make_snapshot
from storpool_devcluster.cluster import Cluster
from storpool_devcluster.gids import cluster_of
from storpool_devcluster.names import Reference, Size, TemplateName, VolumeName, check_reference
from storpool_devcluster.reassignment import detach_everywhere
from storpool_devcluster.records import Template, Volume


class VolumeCreate(PolicyBody):
    name: VolumeName = ""
    size: Size | None = None
    parent: Reference | None = None
    base_on: Reference | None = None
    template: TemplateName | None = None


class VolumeUpdate(PolicyBody):
    rename: VolumeName | None = None
    size: Size | None = None
    size_add: Size | None = None
    shrink_ok: bool = False
    template: TemplateName | None = None


class VolumeDelete(Body):
    on_attached: OnAttached = "fail"


class VolumeRevert(Body):
    to_snapshot: Reference
    revert_size: bool = False


def create(call: Call[VolumeCreate]) -> Json:
    body, cluster = call.body, call.cluster
    with cluster.state.change():
        cluster.state.require_free(body.name)
        template = cluster.state.template(body.template) if body.template else None
        origin = _check_origin(cluster, body, template)
        home = _home(call, origin)
        size = _wanted_size(body, template, origin)
        auto_name: dict[str, Json] = {}
        if origin is not None and not origin.snapshot:
            origin = make_snapshot(cluster, origin, auto_name=True, transient=True, bound=True)
            auto_name = {"autoName": origin.name} if origin.name else {}
        volume = _new_volume(cluster, body, template, origin, size, home)
        if origin is None:
            cluster.backing.create(volume.gid, size)
        else:
            cluster.backing.clone(origin.gid, volume.gid, size)
        cluster.state.put(volume)
    return ok(cluster, **(shapes.volume(cluster, volume, multi_cluster=call.multi_cluster) | auto_name))


def update(call: Call[VolumeUpdate]) -> Json:
    body, cluster = call.body, call.cluster
    with cluster.state.change():
        before = cluster.state.volume(check_reference(call.arg))
        template = cluster.state.template(body.template) if body.template else None
        after = _updated(cluster, before, body, template)
        cluster.state.put(after)
        if after.label != before.label:
            for client in cluster.state.attachments_of(after.gid):
                cluster.devices.link(after, client)
        if after.size_bytes != before.size_bytes:
            _resize(call, after)
    return ok(cluster, **shapes.volume(cluster, after, multi_cluster=call.multi_cluster))


def delete(call: Call[VolumeDelete]) -> Json:
    cluster = call.cluster
    with cluster.state.change():
        volume = cluster.state.volume(check_reference(call.arg))
        if cluster.state.attachments_of(volume.gid):
            if call.body.on_attached in ("fail", "export"):
                raise answers.busy(f"Volume '{volume.label}' is attached")
            detach_everywhere(cluster, volume, force=call.body.on_attached == "detachForce")
        expiry.remove(cluster, volume)
    return ok(cluster)


def revert(call: Call[VolumeRevert]) -> Json:
    body, cluster = call.body, call.cluster
    with cluster.state.change():
        volume = cluster.state.volume(check_reference(call.arg))
        snapshot = cluster.state.snapshot(body.to_snapshot)
        if cluster.state.attachments_of(volume.gid) and not cluster.options.revert_attached:
            raise answers.busy(f"Volume '{volume.label}' is attached")
        size = snapshot.size_bytes if body.revert_size else volume.size_bytes
        cluster.backing.clone(snapshot.gid, volume.gid, size)
        former_parent = cluster.state.volumes.get(volume.parent)
        reverted = replace(volume, size_bytes=size, parent=snapshot.gid)
        template = cluster.state.templates.get(volume.template)
        if cluster.options.revert_resets_limits and template is not None:
            policy = replace(volume.policy, iops=template.policy.iops, bw=template.policy.bw)
            reverted = replace(reverted, policy=policy)
        cluster.state.put(reverted)
        if former_parent is not None:
            expiry.collect(cluster, former_parent)
    return ok(cluster)


def freeze(call: Call[Appointment]) -> Json:
    """The volume becomes a snapshot with its name and global id."""
    cluster = call.cluster
    with cluster.state.change():
        volume = cluster.state.volume(check_reference(call.arg))
        if cluster.state.attachments_of(volume.gid):
            raise answers.busy(f"Volume '{volume.label}' is attached")
        delete_at_s = call.body.delete_at_s(int(time.time()))
        cluster.state.put(replace(volume, snapshot=True, source="", delete_at_s=delete_at_s))
    return ok(cluster)


def _check_origin(cluster: Cluster, body: VolumeCreate, template: Template | None) -> Volume | None:
    if body.parent and body.base_on:
        raise answers.invalid("parent and baseOn exclude each other")
    if body.base_on:
        return cluster.state.volume(body.base_on)
    parent = body.parent or (f"~{template.parent}" if template and template.parent else None)
    return cluster.state.snapshot(parent) if parent else None


def _home(call: Call[VolumeCreate], origin: Volume | None) -> str:
    """The cluster to make it in: [X] in MultiCluster form that of the origin, else the origin has to be there."""
    if origin is None or cluster_of(origin.gid) == call.home:
        return call.home
    if call.only_home:
        raise answers.missing(origin.kind, origin.label)
    return cluster_of(origin.gid)


def _wanted_size(body: VolumeCreate, template: Template | None, origin: Volume | None) -> int:
    size = body.size
    if size is None and origin is not None:
        size = origin.size_bytes
    if size is None and template is not None and template.size_bytes != "-":
        size = template.size_bytes
    if size is None:
        raise answers.invalid("size: needed, as neither parent, baseOn nor template give one")
    if origin is not None and size < origin.size_bytes:
        raise answers.invalid(f"size: below the parent's {origin.size_bytes}")
    return size


def _new_volume(
    cluster: Cluster, body: VolumeCreate, template: Template | None, origin: Volume | None, size: int, home: str
) -> Volume:
    gid, number = cluster.state.new_gid(home)
    volume = Volume(gid, number, size, int(time.time()), name=body.name, tags=merged_tags({}, body.tags))
    # [I] A clone without a template of its own takes that of its parent.
    inherited = template or (cluster.state.templates.get(origin.template) if origin else None)
    policy = inherited.policy if inherited else (origin.policy if origin else volume.policy)
    return replace(
        volume,
        parent=origin.gid if origin else "",
        template=inherited.name if inherited else "",
        policy=body.policy_over(policy),
    )


def _updated(cluster: Cluster, before: Volume, body: VolumeUpdate, template: Template | None) -> Volume:
    changes: dict[str, Any] = {"tags": merged_tags(before.tags, body.tags)}
    if body.rename is not None and body.rename != before.name:
        cluster.state.require_free(body.rename)
        changes["name"] = body.rename
    policy = template.policy if template else before.policy
    changes |= {
        "policy": body.policy_over(policy),
        "template": template.name if template else before.template,
    }
    changes["size_bytes"] = _new_size(before, body)
    return replace(before, **changes)


def _new_size(before: Volume, body: VolumeUpdate) -> int:
    if body.size is not None and body.size_add is not None:
        raise answers.invalid("size and sizeAdd exclude each other")
    size = before.size_bytes + (body.size_add or 0) if body.size is None else body.size
    if size < before.size_bytes and not body.shrink_ok:
        raise answers.invalid(f"size: below the present {before.size_bytes}, and shrinkOk is not set")
    return size


def _resize(call: Call[VolumeUpdate], volume: Volume) -> None:
    cluster, delay_s = call.cluster, call.effects.capacity_delay_s
    cluster.backing.resize(volume.gid, volume.size_bytes)
    if delay_s == 0:
        cluster.devices.take_capacity(volume.gid)
    elif delay_s is not None:
        cluster.later.after(delay_s, lambda: aftermath.take_capacity(cluster, volume.gid))


QUERIES = (
    Query("VolumeCreate", "POST", create, VolumeCreate),
    Query("VolumeUpdate", "POST", update, VolumeUpdate, takes_arg=True),
    Query("VolumeDelete", "POST", delete, VolumeDelete, takes_arg=True),
    Query("VolumeRevert", "POST", revert, VolumeRevert, takes_arg=True),
    Query("VolumeFreeze", "POST", freeze, Appointment, takes_arg=True),
)
