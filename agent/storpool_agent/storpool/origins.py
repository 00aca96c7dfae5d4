# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Of which volume a snapshot was taken."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from storpool_agent.deadline import Deadline
from storpool_agent.storpool import lookups
from storpool_agent.storpool.answers import VolumeAnswer
from storpool_agent.storpool.api import Api
from storpool_agent.storpool.model import Volume
from storpool_agent.storpool.once import Unclear


def sort(
    api: Api, snapshots: Sequence[VolumeAnswer], volumes: Sequence[Volume], deadline: Deadline
) -> Mapping[str, list[VolumeAnswer]]:
    """The snapshots, in the order given, by the global id of their volume.

    Raises Unclear when the origin of one is not certain: it could be a volume's only one.
    """
    found: defaultdict[str, list[VolumeAnswer]] = defaultdict(list)
    for each in snapshots:
        found[_origin(api, each, volumes, deadline)].append(each)
    return found


def _origin(api: Api, snapshot: VolumeAnswer, volumes: Sequence[Volume], deadline: Deadline) -> str:
    """What StorPool says: the global id itself (not every version), the volume by name, or whose parent it is."""
    told = snapshot.created_from_global_id
    if told in {each.global_id for each in volumes}:
        return told
    present = [lookups.find(api, each.reference, deadline, snapshot=False) for each in volumes]
    for each in present:
        if snapshot.on_volume in (each.name, str(each.reference)):
            return each.global_id
    for each in present:
        if each.parent in (snapshot.name, f"~{snapshot.global_id}"):
            return each.global_id
    if told in ("", snapshot.global_id):
        raise Unclear(f"StorPool does not say of which volume snapshot ~{snapshot.global_id} is, which has its tag")
    return told
