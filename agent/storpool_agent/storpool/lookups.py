# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Finding what is there."""

from storpool_agent.deadline import Deadline
from storpool_agent.errors import SnapshotNotFound, StorPoolBadAnswer, VolumeNotFound
from storpool_agent.storpool import queries, refusals
from storpool_agent.storpool.answers import VolumeAnswer
from storpool_agent.storpool.api import Api, Query
from storpool_agent.storpool.model import Volume
from storpool_agent.storpool.refusals import Refusal
from storpool_commands.labels import OPERATION
from storpool_commands.references import Reference


def find(api: Api, reference: Reference, deadline: Deadline, *, snapshot: bool) -> Volume:
    """Raises VolumeNotFound or SnapshotNotFound, also for a snapshot that StorPool only keeps for its children."""
    query = queries.lookup(reference, snapshot=snapshot)
    try:
        found = api.call(query, deadline)
    except Refusal as refusal:
        raise refusals.of_lookup(refusal, reference, snapshot=snapshot) from refusal
    if len(found) != 1:
        raise StorPoolBadAnswer(
            f"StorPool answered {len(found)} objects for {reference} instead of one",
            api=str(api.address),
            query=query.name,
        )
    if found[0].deleted:
        raise SnapshotNotFound(
            f"snapshot {reference} has been deleted; StorPool keeps its data for what was made from it",
            snapshot=str(reference),
        )
    return found[0].as_volume(snapshot=snapshot)


def volumes_made_by(api: Api, operation: str, cluster_id: str | None, deadline: Deadline) -> list[VolumeAnswer]:
    """What carries the operation's tag, oldest first. Lists the whole cluster."""
    return _made_by(operation, _list(api, queries.volumes(cluster_id), "volumes", deadline))


def snapshots_made_by(api: Api, operation: str, deadline: Deadline) -> list[VolumeAnswer]:
    """As `volumes_made_by`, without what is not there for us: deleted snapshots, and StorPool's own."""
    return _made_by(operation, _list(api, queries.snapshots(), "snapshots", deadline))


def named_by(api: Api, name: str | None, operation: str, deadline: Deadline, *, snapshot: bool) -> Reference | None:
    """The object of that name, if this operation made it."""
    if name is None:
        return None
    try:
        found = find(api, Reference("name", name), deadline, snapshot=snapshot)
    except (VolumeNotFound, SnapshotNotFound):  # the name is that of the other kind
        return None
    return found.reference if found.tags.get(OPERATION) == operation else None


def template_names(api: Api, cluster_id: str | None, deadline: Deadline) -> set[str]:
    """Of the API's cluster, or of one that its calls are passed on to."""
    try:
        return {each.name for each in api.call(queries.templates(cluster_id), deadline)}
    except Refusal as refusal:
        where = f" of cluster {cluster_id}" if cluster_id else ""
        raise refusals.other(refusal, f"list the templates{where}") from refusal


def _list(api: Api, query: Query[list[VolumeAnswer]], what: str, deadline: Deadline) -> list[VolumeAnswer]:
    try:
        return api.call(query, deadline)
    except Refusal as refusal:
        raise refusals.other(refusal, f"list the {what}") from refusal


def _made_by(operation: str, listed: list[VolumeAnswer]) -> list[VolumeAnswer]:
    usable = (each for each in listed if not (each.deleted or each.transient))
    return sorted((each for each in usable if each.tags.get(OPERATION) == operation), key=lambda each: each.age)
