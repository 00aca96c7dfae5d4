# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Volumes: made, changed, deleted, reverted."""

from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError
from storpool_agent.storpool import lookups, queries, refusals
from storpool_agent.storpool.api import Api
from storpool_agent.storpool.model import NewVolume, Volume, VolumeChange
from storpool_agent.storpool.once import once, read_back
from storpool_agent.storpool.refusals import NO_SUCH_OBJECT, OBJECT_EXISTS, Refusal
from storpool_commands.labels import OPERATION
from storpool_commands.references import Reference


def create(api: Api, wanted: NewVolume, operation: str, deadline: Deadline, *, look_first: bool) -> Volume:
    what = f"operation {operation} has made its volume"

    def make() -> Volume:
        reference = _create(api, wanted, operation, deadline)
        return read_back(api, reference, deadline, snapshot=False, what=what)

    def look() -> Volume | None:
        made = lookups.volumes_made_by(api, operation, wanted.cluster_id, deadline)
        for younger in made[1:]:
            delete(api, younger.as_volume(), deadline)
        return made[0].as_volume() if made else None

    return once(api, make, look, deadline, what=what, look_first=look_first)


def update(api: Api, volume: Volume, change: VolumeChange, deadline: Deadline) -> None:
    try:
        api.call(queries.update(volume, change), deadline)
    except Refusal as refusal:
        template = change.template
        if refusal.name == NO_SUCH_OBJECT and template is not None:
            # StorPool does not say which of the two is missing.
            lookups.find(api, volume.reference, deadline, snapshot=False)
        raise refusals.of_update(refusal, volume, template) from refusal


def delete(api: Api, volume: Volume, deadline: Deadline) -> None:
    """A volume or a snapshot."""
    try:
        api.call(queries.delete(volume), deadline)
    except Refusal as refusal:
        if refusal.name != NO_SUCH_OBJECT:
            raise refusals.of_delete(refusal, volume) from refusal


def _create(api: Api, wanted: NewVolume, operation: str, deadline: Deadline) -> Reference:
    tags = {**wanted.all_tags, OPERATION: operation}
    try:
        return Reference("id", api.call(queries.create(wanted, tags), deadline).global_id)
    except Refusal as refusal:
        ours = None
        if refusal.name == OBJECT_EXISTS:
            ours = lookups.named_by(api, wanted.name, operation, deadline, snapshot=False)
        if ours is None:
            raise _why_not_made(api, refusal, wanted, deadline) from refusal
        return ours


def _why_not_made(api: Api, refusal: Refusal, wanted: NewVolume, deadline: Deadline) -> AgentError:
    """StorPool does not say which is missing of the cluster, the template and what it is to be a copy of."""
    origin = wanted.parent or wanted.base_on
    if refusal.name == NO_SUCH_OBJECT and (origin or wanted.cluster_id):
        if origin is not None:
            lookups.find(api, origin.reference, deadline, snapshot=origin.snapshot)
        if wanted.template in lookups.template_names(api, wanted.cluster_id, deadline):
            where = f"cluster {wanted.cluster_id}" if wanted.cluster_id else "the cluster of the API"
            return refusals.other(refusal, f"make a volume in {where}, which may not have what it is to be a copy of")
    return refusals.of_create(refusal, wanted)
