# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""deleteVolume, updateVolume, setQosTier."""

from contextlib import suppress
from typing import TypeVar

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolBadAnswer, VolumeNotFound
from storpool_agent.handlers import finding, releasing
from storpool_agent.host import Host, StorPool
from storpool_agent.storpool.model import NewSnapshot, Volume, VolumeChange
from storpool_commands.labels import KIND, TIER
from storpool_commands.references import parse
from storpool_commands.volumes import (
    DeletedVolume,
    DeleteVolume,
    QosTierSet,
    SetQosTier,
    UpdatedVolume,
    UpdateVolume,
    VolumeSettings,
)

T = TypeVar("T")

API_TIMEOUT_S = 60.0
DELETE_NOTE = "delete"
KEPT = "delayDelete"


def delete(command: DeleteVolume, host: Host, attempt: Attempt) -> DeletedVolume:
    """Delete a volume that is attached nowhere; its data is kept first, if that is asked for."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        volume = finding.volume_or_none(command.volume, storpool, deadline)
    if volume is None or finding.is_another(DELETE_NOTE, command.volume, volume, attempt):
        return _deleted_before(command, storpool, attempt, deadline)
    releasing.free(volume, command, host, storpool, attempt, deadline)
    kept = None
    if command.delete_after_s is not None:
        with attempt.step("keep", changes=True):
            kept = _keep(volume, command.delete_after_s, storpool, attempt, deadline)
    finding.note(DELETE_NOTE, command.volume, volume, attempt)
    with attempt.step("delete", changes=True):
        storpool.delete_volume(volume, deadline)
    return DeletedVolume(
        global_id=volume.global_id, deleted_now=True, kept_snapshot=None if kept is None else kept.global_id
    )


def update(command: UpdateVolume, host: Host, attempt: Attempt) -> UpdatedVolume:
    """Send what differs, in one request, and read it back."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        before = storpool.volume(parse(command.volume), deadline)
    wanted = VolumeChange(
        iops=_unless_same(command.iops, before.iops or 0),
        bandwidth_kib_sec=_unless_same(command.bandwidth_kib_sec, before.bandwidth_kib_sec or 0),
        template=_unless_same(command.template, before.template),
        tags=_tier(command.tier, before),
    )
    after = change(before, wanted, storpool, attempt, deadline)
    return UpdatedVolume(global_id=before.global_id, before=_settings(before), after=_settings(after))


def set_tier(command: SetQosTier, host: Host, attempt: Attempt) -> QosTierSet:
    """Set the tag alone: limits that were set by hand would be overridden by storpool_qos."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        before = storpool.volume(parse(command.volume), deadline)
    after = change(before, VolumeChange(tags=_tier(command.tier, before)), storpool, attempt, deadline)
    return QosTierSet(global_id=before.global_id, before=before.tags.get(TIER), after=after.tags.get(TIER))


def _keep(volume: Volume, delete_after_s: int, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> Volume:
    wanted = NewSnapshot(tags={KIND: KEPT}, delete_after_s=delete_after_s)
    operation = f"{attempt.request_id}.keep"
    return storpool.take_snapshot(volume, wanted, operation, deadline, look_first=attempt.may_have_run)


def _deleted_before(command: DeleteVolume, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> DeletedVolume:
    """There is none, perhaps because an earlier run of this request has deleted it: then what that kept is found."""
    reference = parse(command.volume)
    kept = None
    if attempt.may_have_run and command.delete_after_s and reference.kind == "id":
        gone = Volume(reference.value, str(reference), 0, snapshot=False)
        with attempt.step("keep") as step:
            step.already()
            with suppress(VolumeNotFound):
                kept = _keep(gone, command.delete_after_s, storpool, attempt, deadline)
    deleted = kept is not None or attempt.noted(DELETE_NOTE, command.volume)
    return DeletedVolume(
        global_id=reference.value if deleted and reference.kind == "id" else None,
        deleted_now=deleted,
        kept_snapshot=None if kept is None else kept.global_id,
    )


def change(before: Volume, wanted: VolumeChange, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> Volume:
    """Change it, unless there is nothing to change; the volume afterwards, as StorPool says."""
    with attempt.step("update", changes=True) as step:
        if wanted == VolumeChange():
            step.already()
            return before
        storpool.update_volume(before, wanted, deadline)
    with attempt.step("read back"):
        after = storpool.volume(before.reference, deadline)
        if wrong := _not_taken(wanted, after):
            raise StorPoolBadAnswer(
                f"StorPool said that it has changed volume {before.global_id}, but {', '.join(wrong)} did not change, "
                "or somebody else changed it since; look at it, then send it again",
                volume=before.global_id,
                wrong=wrong,
            )
    return after


def _not_taken(change: VolumeChange, after: Volume) -> list[str]:
    pairs = (
        ("iops", change.iops, after.iops or 0),
        ("bandwidth", change.bandwidth_kib_sec, after.bandwidth_kib_sec or 0),
        ("template", change.template, after.template),
        (TIER, change.tags.get(TIER), after.tags.get(TIER, "")),
    )
    return [name for name, wanted, has in pairs if wanted is not None and wanted != has]


def _unless_same(wanted: T | None, has: T) -> T | None:
    return None if wanted == has else wanted


def _tier(tier: str | None, volume: Volume) -> dict[str, str]:
    return {} if tier is None or tier == volume.tags.get(TIER, "") else {TIER: tier}


def _settings(volume: Volume) -> VolumeSettings:
    return VolumeSettings(
        template=volume.template,
        iops=volume.iops,
        bandwidth_kib_sec=volume.bandwidth_kib_sec,
        tags=dict(volume.tags),
    )
