# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of several volumes at one point in time.

The clones are made back to back while no other call runs, all or none. Writers are not stopped, so the points differ
by the fraction of a millisecond that a clone takes; StorPool's are one.
"""

from pydantic import Field

from storpool_devcluster import answers
from storpool_devcluster.answers import Json
from storpool_devcluster.calls.bodies import merged_tags
from storpool_devcluster.calls.call import Body, Call, Query, ok
from storpool_devcluster.cloning import make_snapshot
from storpool_devcluster.names import Reference, SnapshotName, Tags
from storpool_devcluster.records import Volume


class Member(Body):
    volume: Reference
    name: SnapshotName = ""
    tags: Tags = Field(default_factory=dict)


class VolumesGroupSnapshot(Body):
    volumes: list[Member] = Field(min_length=1)
    tags: Tags = Field(default_factory=dict)


def create(call: Call[VolumesGroupSnapshot]) -> Json:
    cluster = call.cluster
    made: list[tuple[str, Volume, Volume]] = []
    with cluster.state.change():
        for member, volume in _checked(call):
            snapshot = make_snapshot(
                cluster,
                volume,
                name=member.name,
                tags=merged_tags(call.body.tags, member.tags),
                auto_name=not member.name,
            )
            made.append((member.volume, volume, snapshot))
    snapshots: Json = [
        {
            "volume": reference,
            "volumeGlobalId": volume.gid,
            "snapshot": snapshot.label,
            "remoteId": snapshot.gid,
            "snapshotGlobalId": snapshot.gid,
        }
        for reference, volume, snapshot in made
    ]
    return ok(cluster, snapshots=snapshots)


def _checked(call: Call[VolumesGroupSnapshot]) -> list[tuple[Member, Volume]]:
    """Everything that can be wrong, before the first clone: as little as possible between the clones."""
    state = call.cluster.state
    found = [(member, state.volume(member.volume)) for member in call.body.volumes]
    if len({volume.gid for _, volume in found}) != len(found):
        raise answers.invalid("volumes: one is named twice")
    names = [member.name for member, _ in found if member.name]
    if len(set(names)) != len(names):
        raise answers.invalid("volumes: two snapshots of one name")
    for name in names:
        state.require_free(name)
    return found


QUERIES = (Query("VolumesGroupSnapshot", "POST", create, VolumesGroupSnapshot),)
