# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Looking up what a command names, in the pool that it names."""

from collections.abc import Sequence

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import SnapshotNotFound, VolumeNotFound
from storpool_agent.host import StorPool
from storpool_agent.storpool.model import Volume
from storpool_commands.references import parse


def volume_or_none(reference: str, storpool: StorPool, deadline: Deadline) -> Volume | None:
    """For commands to which "there is no such thing" is good news."""
    try:
        return storpool.volume(parse(reference), deadline)
    except VolumeNotFound:
        return None


def snapshot_or_none(reference: str, storpool: StorPool, deadline: Deadline) -> Volume | None:
    """As `volume_or_none`."""
    try:
        return storpool.snapshot(parse(reference), deadline)
    except SnapshotNotFound:
        return None


def all_volumes(references: Sequence[str], storpool: StorPool, deadline: Deadline) -> list[Volume]:
    """Each volume once, however often and however it is spelled. Raises VolumeNotFound."""
    return once([storpool.volume(parse(each), deadline) for each in references])


def once(volumes: Sequence[Volume]) -> list[Volume]:
    """The same volumes without those that are there already, in their order."""
    return list({each.global_id: each for each in volumes}.values())


def note(kind: str, reference: str, volume: Volume, attempt: Attempt) -> None:
    """Write down which object the command is about to delete or overwrite, for `is_another`."""
    attempt.note(kind, reference)
    attempt.note(kind, volume.global_id)


def is_another(kind: str, reference: str, volume: Volume, attempt: Attempt) -> bool:
    """A run before this one meant another object: since then its name has moved to this one."""
    return attempt.noted(kind, reference) and not attempt.noted(kind, volume.global_id)
