# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Records as the API shows them."""

from typing import Any

from storpool_devcluster.cluster import Cluster
from storpool_devcluster.gids import cluster_of
from storpool_devcluster.records import Attachment, Policy, Template, Volume

OBJECT_BYTES = 32 << 20  # a volume is stored in objects of this size

Shape = dict[str, Any]


def volume(cluster: Cluster, item: Volume, *, multi_cluster: bool = False) -> Shape:
    parent = cluster.state.volumes.get(item.parent)
    template = cluster.state.templates.get(item.template)
    shape: Shape = {
        "id": item.number,
        "name": item.label,
        "globalId": item.gid,
        "size": item.size_bytes,
        "parentName": parent.label if parent else "",
        "templateName": item.template,
        **_policy(item.policy),
        "visibleVolumeId": item.number,
        "parentVolumeId": parent.number if parent else 0,
        "originalParentVolumeId": parent.number if parent else 0,
        "templateId": template.number if template else 0,
        "objectsCount": -(-item.size_bytes // OBJECT_BYTES),
        "creationTimestamp": item.created_s,
        "flags": 0,
        "firstNotParentObjectId": 0,
        "tags": dict(item.tags),
    }
    if item.snapshot:
        shape |= _snapshot_members(cluster, item)
    if multi_cluster:
        home = cluster_of(item.gid)
        shape |= {"clusterName": cluster.options.clusters[home], "clusterId": home}
    return shape


def _snapshot_members(cluster: Cluster, item: Volume) -> Shape:
    source = cluster.state.volumes.get(item.source)
    return {
        # [I] A snapshot whose volume is gone: the vendor's client refuses an empty name and takes a dash.
        "onVolume": source.label if source else "-",
        "autoName": item.auto_name,
        "bound": item.bound,
        "deleted": item.deleted,
        "transient": item.transient,
        "targetDeleteDate": item.delete_at_s,
        "recoveringFromRemote": False,
        "createdFromGlobalId": item.source or item.gid,
        "deleteBlocked": "multiple children" if item.deleted else "not blocked",
    }


def attachment(cluster: Cluster, item: Attachment, *, multi_cluster: bool = False) -> Shape:
    target = cluster.state.volumes.get(item.gid)
    shape: Shape = {
        "volume": target.label if target else f"~{item.gid}",
        "globalId": item.gid,
        "snapshot": bool(target and target.snapshot),
        "client": item.client,
        "rights": item.rights,
        "pos": item.position,
    }
    if multi_cluster:
        home = cluster_of(item.gid)
        shape |= {"cluster": cluster.options.clusters[home], "clusterId": home}
    return shape


def template(cluster: Cluster, item: Template) -> Shape:
    parent = cluster.state.volumes.get(item.parent)
    return {
        "id": item.number,
        "name": item.name,
        "parentName": parent.label if parent else "",
        "size": item.size_bytes,
        **_policy(item.policy),
    }


def _policy(policy: Policy) -> Shape:
    return {
        "replication": policy.replication,
        "placeAll": policy.place_all,
        "placeTail": policy.place_tail,
        "placeHead": policy.place_head,
        "reuseServer": policy.reuse_server,
        "bw": policy.bw,
        "iops": policy.iops,
        "limitType": policy.limit_type,
    }
