# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""revertSnapshot: the data of a snapshot, once for a request; then the limits that a revert may lose.

What a later run has to know, on this host or another, is kept in two tags of the volume, because it has to last as long
as the volume does and StorPool has no other place for it.
"""

from dataclasses import dataclass

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, RevertIncomplete, StorPoolBadAnswer, VolumeNotFound, WouldShrink
from storpool_agent.handlers import connecting, finding, releasing, unlocking
from storpool_agent.host import Host, StorPool
from storpool_agent.storpool.model import NewSnapshot, Volume, VolumeChange
from storpool_commands.errors import retry_class
from storpool_commands.labels import KIND, TIER
from storpool_commands.references import parse
from storpool_commands.snapshots import RevertedVolume, RevertSnapshot

API_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 30.0
"""For what has to follow a revert, when the time before it may be used up."""

SAFETY = "safety"
REVERT_NOTE = "revert"
BEGUN = "sp-op-reverting"
"""`<request id>:<iops>:<bandwidth>` from before a revert until the limits are set again; 0 is no limit."""
DONE = "sp-op-revert"
"""The ids of the last requests that have reverted the volume, joined by colons: one that is run again, because its
reply was lost, must not throw away what was written since."""
REMEMBERED = 5  # ids of 36 characters, so that the value stays below StorPool's 200


@dataclass(frozen=True)
class _Limits:
    """0 is no limit."""

    iops: int
    bandwidth_kib_sec: int


def revert(command: RevertSnapshot, host: Host, attempt: Attempt) -> RevertedVolume:
    """Refuse what somebody uses, keep what is there, revert, set the limits again, read back."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        volume = storpool.volume(parse(command.volume), deadline)
        snapshot = storpool.snapshot(parse(command.snapshot), deadline)
        if finding.is_another(REVERT_NOTE, command.volume, volume, attempt):
            raise VolumeNotFound(
                f"the name {command.volume} has moved to volume {volume.global_id} since this request was begun; "
                "name the volume by its global id",
                volume=command.volume,
            )
        unlocking.refuse_mixing(volume, snapshot)
        if snapshot.size_bytes > volume.size_bytes and not command.revert_size:
            raise WouldShrink(
                f"snapshot {snapshot.global_id} has {snapshot.size_bytes} bytes, volume {volume.global_id} only "
                f"{volume.size_bytes}: the end of the data would be lost; give revertSize, or make it larger first",
                volume=volume.global_id,
                size_bytes=volume.size_bytes,
            )
    done, begun = _is_done(volume, attempt), _is_begun(volume, attempt)
    if begun:
        with attempt.step("begun", changes=True) as step:
            step.earlier()
    if not done:
        _check(volume, command, host, storpool, attempt, deadline, begun=begun)
    safety = _keep(volume, storpool, attempt, deadline) if command.safety_snapshot else None
    with attempt.step("revert", changes=True) as step:
        if done:
            step.earlier()
        else:
            finding.note(REVERT_NOTE, command.volume, volume, attempt)
            _mark_begun(volume, attempt, storpool, deadline)
            _revert(volume, snapshot, command, storpool, attempt, deadline)
    after = volume
    if begun or not done:
        after = _finish(volume, _wanted_limits(command, volume), safety, storpool, attempt, done=done)
    return RevertedVolume(
        global_id=volume.global_id,
        snapshot=snapshot.global_id,
        size_bytes=after.size_bytes,
        iops=after.iops,
        safety_snapshot=None if safety is None else safety.global_id,
    )


def _is_done(volume: Volume, attempt: Attempt) -> bool:
    return attempt.request_id in volume.tags.get(DONE, "").split(":")


def _is_begun(volume: Volume, attempt: Attempt) -> bool:
    """An earlier run of this request may have reverted it, and its limits are still to be set."""
    return volume.tags.get(BEGUN, "").split(":")[0] == attempt.request_id


def _check(
    volume: Volume,
    command: RevertSnapshot,
    host: Host,
    storpool: StorPool,
    attempt: Attempt,
    deadline: Deadline,
    *,
    begun: bool,
) -> None:
    with attempt.step("check"):
        connecting.refuse_migrating(attempt, [volume])
        releasing.refuse_running([volume], host, deadline)
        clients = releasing.clients_of([volume], storpool, deadline)[volume.global_id]
        if clients and begun:
            raise RevertIncomplete(
                f"volume {volume.global_id} may have been reverted by an earlier run of this request, and is now "
                f"attached to client {', '.join(map(str, clients))}: it is left as it is; look at its data",
                volume=volume.global_id,
                missing=["confirmation", "limits"],
            )
        if not command.detach:
            releasing.refuse_attached(volume, clients)
    if clients:
        with attempt.step("detach", changes=True):
            storpool.release([volume], deadline)
        with attempt.step("confirm"):
            releasing.refuse_attached(volume, releasing.clients_of([volume], storpool, deadline)[volume.global_id])


def _keep(volume: Volume, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> Volume:
    wanted = NewSnapshot(tags={KIND: SAFETY})
    operation = f"{attempt.request_id}.{SAFETY}"
    with attempt.step("safety", changes=True):
        return storpool.take_snapshot(volume, wanted, operation, deadline, look_first=attempt.may_have_run)


def _mark_begun(volume: Volume, attempt: Attempt, storpool: StorPool, deadline: Deadline) -> None:
    limits = _limits_before(volume)
    mark = f"{attempt.request_id}:{limits.iops}:{limits.bandwidth_kib_sec}"
    storpool.update_volume(volume, VolumeChange(tags={BEGUN: mark}), deadline)


def _revert(
    volume: Volume,
    snapshot: Volume,
    command: RevertSnapshot,
    storpool: StorPool,
    attempt: Attempt,
    deadline: Deadline,
) -> None:
    """Raises what StorPool says; when that is certain, the volume is not marked any more."""
    try:
        storpool.revert_volume(volume, snapshot, deadline, revert_size=command.revert_size)
    except AgentError as error:
        if retry_class(error.code) != "uncertain":
            with attempt.undo("mark"):
                storpool.update_volume(volume, VolumeChange(tags={BEGUN: ""}), Deadline.after(FINISH_TIMEOUT_S))
        raise


def _limits_before(volume: Volume) -> _Limits:
    """What the volume had before it was reverted: by the mark of a revert that was not finished, or as it has now."""
    if BEGUN in volume.tags:
        _, iops, bandwidth = volume.tags[BEGUN].split(":")
        return _Limits(int(iops), int(bandwidth))
    return _Limits(volume.iops or 0, volume.bandwidth_kib_sec or 0)


def _wanted_limits(command: RevertSnapshot, volume: Volume) -> _Limits:
    before = _limits_before(volume)
    return before if command.iops is None else _Limits(command.iops, before.bandwidth_kib_sec)


def _finish(
    volume: Volume, wanted: _Limits, safety: Volume | None, storpool: StorPool, attempt: Attempt, *, done: bool
) -> Volume:
    """The volume afterwards. Raises RevertIncomplete for whatever fails from here on: its data is the snapshot's."""
    deadline = Deadline.after(FINISH_TIMEOUT_S)
    missing = ["mark", "limits"]
    try:
        with attempt.step("mark"):
            if not done:
                ids = [each for each in volume.tags.get(DONE, "").split(":") if each]
                mark = ":".join([*ids, attempt.request_id][-REMEMBERED:])
                storpool.update_volume(volume, VolumeChange(tags={DONE: mark}), deadline)
        missing.remove("mark")
        with attempt.step("limits", changes=True):
            return _set_limits(volume, wanted, storpool, deadline)
    except AgentError as error:
        raise RevertIncomplete(
            f"volume {volume.global_id} has the data of its snapshot, but not its {' and '.join(missing)}: {error}; "
            "set the limits by updateVolume",
            volume=volume.global_id,
            missing=missing,
            iops=wanted.iops,
            bandwidth_kib_sec=wanted.bandwidth_kib_sec,
            safety_snapshot=None if safety is None else safety.global_id,
        ) from error


def _set_limits(volume: Volume, wanted: _Limits, storpool: StorPool, deadline: Deadline) -> Volume:
    """Set them, and read them back; those of a tier are set by storpool_qos whenever it likes."""
    change = VolumeChange(iops=wanted.iops, bandwidth_kib_sec=wanted.bandwidth_kib_sec, tags={BEGUN: ""})
    storpool.update_volume(volume, change, deadline)
    after = storpool.volume(volume.reference, deadline)
    if TIER not in after.tags and _Limits(after.iops or 0, after.bandwidth_kib_sec or 0) != wanted:
        raise StorPoolBadAnswer(
            f"StorPool took {wanted.iops} iops and {wanted.bandwidth_kib_sec} KiB/s, and says now {after.iops} and "
            f"{after.bandwidth_kib_sec}",
            volume=volume.global_id,
        )
    return after
