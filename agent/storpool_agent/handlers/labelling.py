# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The tags that a volume has while it is a disk of a machine: set by attach, removed by detach.

VolumeCare backs up by them, so a disk that keeps them after its detach is backed up for ever, and one that never got
them is not backed up at all: a command whose tags failed has failed.
"""

from collections.abc import Mapping

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, TagsNotSet, VolumeNotFound
from storpool_agent.handlers.tags import differing
from storpool_agent.host import Host, StorPool
from storpool_agent.storpool.model import Volume, VolumeChange
from storpool_commands.labels import DISK, POLICY, VM

TAGS_TIMEOUT_S = 15.0
"""Of its own: a guest that took its time must not cost the volume its tags."""

OF_THE_MACHINE = (VM, POLICY, DISK)
"""`qc` is not among them: it belongs to the volume's offering, and stays."""


def label(volume: Volume, wanted: Mapping[str, str], host: Host, attempt: Attempt) -> None:
    """Give an attached volume its tags; no call when it has them. Raises TagsNotSet, and undoes nothing."""
    try:
        with attempt.step("tags", changes=True) as step:
            changes = differing(volume, dict(wanted))
            if changes:
                host.storpool.update_volume(volume, VolumeChange(tags=changes), Deadline.after(TAGS_TIMEOUT_S))
            else:
                step.already()
    except AgentError as error:
        raise TagsNotSet(
            f"volume {volume.global_id} is attached, but could not get its tags {', '.join(sorted(wanted))}: {error}; "
            "send it again, that does only what is missing",
            volume=volume.global_id,
            tags=sorted(wanted),
        ) from error


def unlabel(volume: Volume, vm_uuid: str | None, host: Host, attempt: Attempt) -> None:
    """Take the machine's tags from a detached volume; no call when it has none. Raises TagsNotSet."""
    try:
        with attempt.step("tags", changes=True) as step:
            if not remove(volume, vm_uuid, host.storpool):
                step.already()
    except AgentError as error:
        raise TagsNotSet(
            f"volume {volume.global_id} is detached, but has its tags still: {error}; "
            "send it again, that does only what is missing",
            volume=volume.global_id,
            tags=list(OF_THE_MACHINE),
        ) from error


def remove(volume: Volume, vm_uuid: str | None, storpool: StorPool) -> bool:
    """Remove the tags of the machine, unless the volume is another's; false when there is nothing to remove.

    It is looked at once more before: another host may have attached it for another machine since. A snapshot's tags
    say what it was taken of, and stay.
    """
    if volume.snapshot or not _removable(volume, vm_uuid):
        return False
    deadline = Deadline.after(TAGS_TIMEOUT_S)
    try:
        changes = _removable(storpool.volume(volume.reference, deadline), vm_uuid)
        if changes:
            storpool.update_volume(volume, VolumeChange(tags=changes), deadline)
    except VolumeNotFound:
        return False
    return bool(changes)


def _removable(volume: Volume, vm_uuid: str | None) -> dict[str, str]:
    owner = volume.tags.get(VM)
    if owner is not None and (vm_uuid is None or owner.lower() != vm_uuid.lower()):
        return {}
    return {name: "" for name in OF_THE_MACHINE if name in volume.tags}
