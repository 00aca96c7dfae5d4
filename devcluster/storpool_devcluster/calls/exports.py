# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls that let other locations have snapshots. There is no other location: it is noted who may, no more."""

from dataclasses import replace

from storpool_devcluster import answers
from storpool_devcluster.answers import Json
from storpool_devcluster.calls.call import Body, Call, Nothing, Query, ok
from storpool_devcluster.names import Reference, VolumeName


class SnapshotExport(Body):
    snapshot: Reference
    location: VolumeName


class SnapshotUnexport(Body):
    snapshot: Reference
    location: VolumeName | None = None
    all: bool = False
    force: bool = False


def export(call: Call[SnapshotExport]) -> Json:
    """[X] To a location that has it already: a success."""
    state = call.cluster.state
    with state.change():
        snapshot = state.snapshot(call.body.snapshot)
        state.put(replace(snapshot, exported_to=tuple(sorted({*snapshot.exported_to, call.body.location}))))
    return ok(call.cluster)


def unexport(call: Call[SnapshotUnexport]) -> Json:
    """[X] From a location that does not have it: a success."""
    state, body = call.cluster.state, call.body
    if body.all == (body.location is not None):
        raise answers.invalid("one of location and all is needed")
    with state.change():
        snapshot = state.snapshot(body.snapshot)
        left = () if body.all else tuple(each for each in snapshot.exported_to if each != body.location)
        state.put(replace(snapshot, exported_to=left))
    return ok(call.cluster)


def list_all(call: Call[Nothing]) -> Json:
    snapshots = [item for item in call.cluster.state.volumes.all() if item.exported_to and call.lists(item.gid)]
    return {
        "exports": [
            {"snapshot": item.label, "globalId": item.gid, "location": location, "backingUp": False}
            for item in snapshots
            for location in item.exported_to
        ]
    }


QUERIES = (
    Query("SnapshotExport", "POST", export, SnapshotExport),
    Query("SnapshotUnexport", "POST", unexport, SnapshotUnexport),
    Query("ExportsList", "GET", list_all),
)
