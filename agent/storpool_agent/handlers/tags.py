# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPoolCreateTagsCmd and StorPoolDeleteTagsCmd: the tags of all disks of a machine."""

from collections.abc import Callable, Sequence

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, StorPoolBadAnswer, TagsNotSet
from storpool_agent.handlers import finding
from storpool_agent.host import Host, StorPool
from storpool_agent.storpool.model import Volume, VolumeChange
from storpool_commands.tags import CreatedTags, DeletedTags, StorPoolCreateTags, StorPoolDeleteTags, TaggedVolume

API_TIMEOUT_S = 60.0

_Wanted = Callable[[Volume], dict[str, str]]
"""The tags that a volume does not have as they are to be; an empty value removes one."""


def create(command: StorPoolCreateTags, host: Host, attempt: Attempt) -> CreatedTags:
    """Set tags on all volumes; none is touched unless all exist."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        volumes = finding.all_volumes(command.volumes, storpool, deadline)
    return CreatedTags(
        volumes=_change_all(volumes, lambda one: differing(one, command.set), storpool, attempt, deadline)
    )


def delete(command: StorPoolDeleteTags, host: Host, attempt: Attempt) -> DeletedTags:
    """Remove tags from all volumes that exist."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        found = [finding.volume_or_none(each, storpool, deadline) for each in command.volumes]
    volumes = finding.once([each for each in found if each is not None])
    removed = dict.fromkeys(command.remove, "")
    return DeletedTags(volumes=_change_all(volumes, lambda one: differing(one, removed), storpool, attempt, deadline))


def differing(volume: Volume, wanted: dict[str, str]) -> dict[str, str]:
    """Those of the wanted tags that the volume has otherwise, or has although they are to be removed."""
    return {name: value for name, value in wanted.items() if volume.tags.get(name, "") != value}


def _change_all(
    volumes: Sequence[Volume], wanted: _Wanted, storpool: StorPool, attempt: Attempt, deadline: Deadline
) -> list[TaggedVolume]:
    """Raises what StorPool said when nothing has been changed yet, TagsNotSet afterwards."""
    tagged: list[TaggedVolume] = []
    changed = False
    for volume in volumes:
        try:
            with attempt.step("tags", changes=True) as step:
                changes = wanted(volume)
                if not changes:
                    step.already()
                tagged.append(_change(volume, changes, wanted, storpool, deadline))
        except AgentError as error:
            if not changed:
                raise
            left = [each.global_id for each in volumes[len(tagged) :]]
            raise TagsNotSet(
                f"{len(tagged)} of {len(volumes)} volumes have their tags, then {volume.global_id} failed: {error}; "
                "send it again for the rest",
                set=[each.global_id for each in tagged],
                left=left,
            ) from error
        changed = changed or bool(changes)
    return tagged


def _change(
    volume: Volume, changes: dict[str, str], wanted: _Wanted, storpool: StorPool, deadline: Deadline
) -> TaggedVolume:
    after = volume
    if changes:
        storpool.update_volume(volume, VolumeChange(tags=changes), deadline)
        after = storpool.volume(volume.reference, deadline)
        if wrong := sorted(wanted(after)):
            raise StorPoolBadAnswer(
                f"StorPool said that it has set the tags of volume {volume.global_id}, but {', '.join(wrong)} did not "
                "change, or somebody else changed it since",
                volume=volume.global_id,
                wrong=wrong,
            )
    return TaggedVolume(global_id=volume.global_id, before=dict(volume.tags), after=dict(after.tags))
