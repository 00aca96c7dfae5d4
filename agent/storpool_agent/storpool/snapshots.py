# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of one volume."""

from storpool_agent.deadline import Deadline
from storpool_agent.storpool import lookups, origins, queries, refusals, volumes
from storpool_agent.storpool.api import Api
from storpool_agent.storpool.model import NewSnapshot, Volume
from storpool_agent.storpool.once import once, read_back
from storpool_agent.storpool.refusals import OBJECT_EXISTS, Refusal
from storpool_commands.labels import OPERATION
from storpool_commands.references import Reference


def take(
    api: Api, volume: Volume, wanted: NewSnapshot, operation: str, deadline: Deadline, *, look_first: bool
) -> Volume:
    what = f"operation {operation} has taken its snapshot of volume {volume.reference}"

    def make() -> Volume:
        reference = _take(api, volume, wanted, operation, deadline)
        return read_back(api, reference, deadline, snapshot=True, what=what)

    def look() -> Volume | None:
        made = lookups.snapshots_made_by(api, operation, deadline)
        taken = origins.sort(api, made, [volume], deadline)[volume.global_id]
        for younger in taken[1:]:
            volumes.delete(api, younger.as_volume(snapshot=True), deadline)
        return taken[0].as_volume(snapshot=True) if taken else None

    return once(api, make, look, deadline, what=what, look_first=look_first)


def _take(api: Api, volume: Volume, wanted: NewSnapshot, operation: str, deadline: Deadline) -> Reference:
    tags = {**wanted.tags_of(volume), OPERATION: operation}
    try:
        return Reference("id", api.call(queries.snapshot(volume, wanted, tags), deadline).snapshot_global_id)
    except Refusal as refusal:
        ours = None
        if refusal.name == OBJECT_EXISTS:
            ours = lookups.named_by(api, wanted.name, operation, deadline, snapshot=True)
        if ours is None:
            raise refusals.of_snapshot(refusal, volume, wanted.name) from refusal
        return ours
