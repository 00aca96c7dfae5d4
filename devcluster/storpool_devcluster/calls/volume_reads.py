# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls that read volumes. Numbers about disks and redundancy are those of a healthy cluster with one disk."""

from typing import Any

from storpool_devcluster.answers import Json
from storpool_devcluster.calls import shapes
from storpool_devcluster.calls.call import Call, Nothing, Query
from storpool_devcluster.calls.shapes import Shape
from storpool_devcluster.names import check_reference
from storpool_devcluster.records import Volume

_HEALTHY: dict[str, Any] = {
    "status": "up",
    "migrating": False,
    "decreasedRedundancy": False,
    "balancerBlocked": False,
    "syncingDataBytes": 0,
    "syncingMetaObjects": 0,
    "downBytes": 0,
    "upSoonChainsCount": 0,
    "downDrives": [],
    "missingDrives": [],
    "missingTargetDrives": [],
    "softEjectingDrives": [],
}


def list_all(call: Call[Nothing]) -> Json:
    return [_shape(call, item) for item in _only(call, snapshots=False)]


def list_one(call: Call[Nothing]) -> Json:
    return [_shape(call, _volume(call))]


def describe(call: Call[Nothing]) -> Json:
    return _shape(call, _volume(call)) | describe_members()


def info(call: Call[Nothing]) -> Json:
    volume = _volume(call)
    return _shape(call, volume) | info_members(volume)


def status(call: Call[Nothing]) -> Json:
    return {item.label: _status(call, item) | _stored(call, item) for item in call.cluster.state.volumes.all()}


def quick_status(call: Call[Nothing]) -> Json:
    return {item.label: _status(call, item) for item in call.cluster.state.volumes.all()}


def space(call: Call[Nothing]) -> Json:
    return [_shape(call, item) | space_members(call, item) for item in _only(call, snapshots=False)]


def list_both(call: Call[Nothing]) -> Json:
    both = {"volumes": _only(call, snapshots=False), "snapshots": _only(call, snapshots=True)}
    return {key: [_shape(call, item) | {"snapshot": item.snapshot} for item in items] for key, items in both.items()}


def ancestors(call: Call[Nothing]) -> Json:
    """The chain of parents, nearest first."""
    found: list[Shape] = []
    item = call.cluster.state.volumes.get(_volume(call).parent)
    while item is not None:
        found.append(_shape(call, item))
        item = call.cluster.state.volumes.get(item.parent)
    return found


def describe_members() -> Shape:
    return {"targetDiskSets": [[1]], "objects": [[1]]}


def info_members(item: Volume) -> Shape:
    count = -(-item.size_bytes // shapes.OBJECT_BYTES)
    chain = [{"disks": [1], "count": count}]
    return {
        "disksCount": 1,
        "objectsPerDisk": {"1": count},
        "objectsPerChain": chain,
        "objectsPerDiskSet": chain,
    }


def space_members(call: Call[Nothing], item: Volume) -> Shape:
    stored = call.cluster.backing.stored_bytes(item.gid)
    return {"storedSize": min(stored, item.size_bytes), "spaceUsed": stored}


def _only(call: Call[Nothing], *, snapshots: bool) -> list[Volume]:
    return [item for item in call.cluster.state.volumes.all() if item.snapshot == snapshots and call.lists(item.gid)]


def _shape(call: Call[Nothing], item: Volume) -> Shape:
    return shapes.volume(call.cluster, item, multi_cluster=call.multi_cluster)


def _volume(call: Call[Nothing]) -> Volume:
    return call.cluster.state.volume(check_reference(call.arg))


def _status(call: Call[Nothing], item: Volume) -> Shape:
    return _shape(call, item) | _HEALTHY | {"snapshot": item.snapshot}


def _stored(call: Call[Nothing], item: Volume) -> Shape:
    stored = call.cluster.backing.stored_bytes(item.gid)
    return {"storedSize": min(stored, item.size_bytes), "onDiskSize": stored}


QUERIES = (
    Query("VolumesList", "GET", list_all),
    Query("Volume", "GET", list_one, takes_arg=True),
    Query("VolumeDescribe", "GET", describe, takes_arg=True),
    Query("VolumeGetInfo", "GET", info, takes_arg=True),
    Query("VolumesGetStatus", "GET", status),
    Query("VolumesGetStatusQuick", "GET", quick_status),
    Query("VolumesSpace", "GET", space),
    Query("VolumesAndSnapshotsList", "GET", list_both),
    Query("VolumeListSnapshots", "GET", ancestors, takes_arg=True),
)
