# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of several volumes at one moment."""

from collections.abc import Sequence
from dataclasses import replace

from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolBadAnswer, StorPoolTimeout
from storpool_agent.storpool import lookups, origins, queries, refusals
from storpool_agent.storpool import volumes as objects
from storpool_agent.storpool.answers import TakenOfGroup
from storpool_agent.storpool.api import Api
from storpool_agent.storpool.model import NewSnapshot, Volume, inherited
from storpool_agent.storpool.once import once
from storpool_agent.storpool.refusals import NO_SUCH_OBJECT, Refusal
from storpool_commands.labels import OPERATION


def take(
    api: Api,
    volumes: Sequence[Volume],
    wanted: NewSnapshot,
    operation: str,
    deadline: Deadline,
    *,
    look_first: bool,
) -> Sequence[Volume]:
    """Nothing is read back, as a guest may be frozen meanwhile: each has the size that its volume was given with."""
    tags = {**wanted.tags, OPERATION: operation}

    def make() -> Sequence[Volume]:
        try:
            taken = api.call(queries.group_snapshot(volumes, tags), deadline).snapshots
        except Refusal as refusal:
            if refusal.name == NO_SUCH_OBJECT:  # StorPool does not say which of them
                for each in volumes:
                    lookups.find(api, each.reference, deadline, snapshot=False)
            raise refusals.of_group_snapshot(refusal, volumes) from refusal
        return _matched(api, volumes, taken, tags)

    def look() -> Sequence[Volume] | None:
        return _find(api, volumes, operation, deadline)

    what = f"operation {operation} has taken its snapshots"
    return once(api, make, look, deadline, what=what, look_first=look_first)


def _matched(
    api: Api, volumes: Sequence[Volume], taken: Sequence[TakenOfGroup], tags: dict[str, str]
) -> Sequence[Volume]:
    """In the order of the volumes."""
    found: list[Volume] = []
    for volume in volumes:
        of_it = [each for each in taken if _is_of(each, volume)]
        if len(of_it) != 1:
            raise StorPoolBadAnswer(
                f"StorPool answered {len(of_it)} snapshots of volume {volume.reference} instead of one",
                api=str(api.address),
                query="MultiCluster/VolumesGroupSnapshot",
                volume=volume.global_id,
            )
        found.append(_snapshot(volume, of_it[0], {**inherited(volume), **tags}))
    return tuple(found)


def _is_of(taken: TakenOfGroup, volume: Volume) -> bool:
    if taken.volume_global_id:
        return taken.volume_global_id == volume.global_id
    return taken.volume in (str(volume.reference), volume.name)


def _snapshot(volume: Volume, taken: TakenOfGroup, tags: dict[str, str]) -> Volume:
    global_id = taken.snapshot_global_id
    return replace(
        volume,
        global_id=global_id,
        name=taken.snapshot or f"~{global_id}",
        snapshot=True,
        tags=tags,
        on_volume=volume.name,
    )


def _find(api: Api, volumes: Sequence[Volume], operation: str, deadline: Deadline) -> Sequence[Volume] | None:
    """The oldest group, complete and matched surely; younger ones are deleted. None when there is none."""
    made = lookups.snapshots_made_by(api, operation, deadline)
    if not made:
        return None
    group, younger = made[: len(volumes)], made[len(volumes) :]
    of_it = origins.sort(api, group, volumes, deadline)
    whole = len(made) % len(volumes) == 0 and all(len(of_it[each.global_id]) == 1 for each in volumes)
    if not whole or not origins.sort(api, younger, volumes, deadline).keys() <= of_it.keys():
        every = ", ".join(f"~{each.global_id}" for each in made)
        # Looked at again for a while: another agent may be about to delete a younger group.
        raise StorPoolTimeout(
            f"which snapshots operation {operation} has taken is not known: {every} have its tag, and are no whole "
            "group of its volumes: look at them, and delete what is left of it",
            operation=operation,
        )
    for each in younger:
        objects.delete(api, each.as_volume(snapshot=True), deadline)
    return tuple(of_it[each.global_id][0].as_volume(snapshot=True) for each in volumes)
