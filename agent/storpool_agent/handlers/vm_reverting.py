# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""revertVMSnapshot: everything is checked, then everything is reverted, or it is said what is not.

What an attempt that the agent did not survive has reverted is not reverted again: something may have been written
to it since.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import (
    AgentError,
    DiskInUseByVm,
    InvalidCommand,
    RevertIncomplete,
    StorPoolBadAnswer,
    VmNotFound,
    VolumeNotFound,
    WouldShrink,
)
from storpool_agent.handlers import connecting, finding, releasing, unlocking
from storpool_agent.host import Host, StorPool
from storpool_agent.storpool.model import NewSnapshot, Volume, VolumeChange
from storpool_commands.errors import retry_class
from storpool_commands.labels import KIND, TIER
from storpool_commands.references import parse
from storpool_commands.vm_snapshots import RevertedDisk, RevertedVmSnapshot, RevertVmSnapshot, VolumeAndSnapshot

API_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 30.0
"""For what has to follow a revert, when the time before it may be used up."""
SAFETY = "safety"
BEGUN_NOTE, DONE_NOTE, LIMITS_NOTE = "revert", "reverted", "limits"


@dataclass
class _Disk:
    """A volume on its way back."""

    named: str
    """The volume as the command has it."""
    volume: Volume
    snapshot: Volume
    iops: int
    """0: no limit; so for the bandwidth. As before the revert."""
    bandwidth_kib_sec: int
    begun: bool
    """An earlier attempt was about to revert it."""
    done: bool
    """It has the data of its snapshot."""
    safety: str | None = None
    limited: bool = False
    """It has its limits again."""


def revert(command: RevertVmSnapshot, host: Host, attempt: Attempt) -> RevertedVmSnapshot:
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        disks = [_find(pair, storpool, attempt, deadline) for pair in command.disks]
        if len({disk.volume.global_id for disk in disks}) < len(disks):
            raise InvalidCommand("disks: two of the references are of one volume; name each once")
    if any(disk.begun for disk in disks):
        with attempt.step("begun", changes=True) as step:
            step.earlier()
    left = [disk for disk in disks if not disk.done]
    with attempt.step("check"):
        connecting.refuse_migrating(attempt, [disk.volume for disk in left])
        attached = _check(left, command, host, storpool, deadline)
    if attached:
        with attempt.step("detach", changes=True):
            storpool.release(attached, deadline)
        with attempt.step("confirm"):
            _refuse_attached(left, storpool, deadline)
    if command.safety_snapshots:
        _keep(disks, storpool, attempt, deadline)
    for disk in disks:
        try:
            _revert(disk, storpool, attempt)
            _limit(disk, storpool, attempt)
        except AgentError as error:
            raise _failed(error, disk, disks, storpool, attempt) from error
    return RevertedVmSnapshot(
        disks=[
            RevertedDisk(
                volume=disk.volume.global_id,
                snapshot=disk.snapshot.global_id,
                safety_snapshot=disk.safety,
                iops=disk.iops or None,
            )
            for disk in disks
        ]
    )


def _find(pair: VolumeAndSnapshot, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> _Disk:
    volume = storpool.volume(parse(pair.volume), deadline)
    snapshot = storpool.snapshot(parse(pair.snapshot), deadline)
    if finding.is_another(BEGUN_NOTE, pair.volume, volume, attempt):
        raise VolumeNotFound(
            f"the name {pair.volume} has moved to volume {volume.global_id} since this request was begun; name the "
            "volume by its global id",
            volume=pair.volume,
        )
    unlocking.refuse_mixing(volume, snapshot)
    if snapshot.size_bytes > volume.size_bytes:
        raise WouldShrink(
            f"snapshot {snapshot.global_id} has {snapshot.size_bytes} bytes, volume {volume.global_id} only "
            f"{volume.size_bytes}: the end of the data would be lost; make the volume larger first",
            volume=volume.global_id,
            size_bytes=volume.size_bytes,
        )
    iops, bandwidth = _limits_before(volume, attempt)
    global_id = volume.global_id
    begun, done = (attempt.noted(kind, global_id) for kind in (BEGUN_NOTE, DONE_NOTE))
    return _Disk(pair.volume, volume, snapshot, iops, bandwidth, begun, done)


def _limits_before(volume: Volume, attempt: Attempt) -> tuple[int, int]:
    """As the first attempt noted them: a revert may lose them."""
    for text in attempt.notes(LIMITS_NOTE):
        global_id, iops, bandwidth = text.split(":")
        if global_id == volume.global_id:
            return int(iops), int(bandwidth)
    return volume.iops or 0, volume.bandwidth_kib_sec or 0


def _check(
    left: Sequence[_Disk], command: RevertVmSnapshot, host: Host, storpool: StorPool, deadline: Deadline
) -> list[Volume]:
    """What has to be detached first. A machine that this host does not know does not run on it."""
    if command.vm is not None:
        _refuse_running(command.vm, host, deadline)
    volumes = [disk.volume for disk in left]
    releasing.refuse_running(volumes, host, deadline)
    clients = releasing.clients_of(volumes, storpool, deadline)
    for disk in left:
        having = clients[disk.volume.global_id]
        if having and disk.begun:
            raise RevertIncomplete(
                f"volume {disk.volume.global_id} may have been reverted by an earlier run of this request, and is now "
                f"attached to client {', '.join(map(str, having))}: it is left as it is; look at its data",
                **_facts(left),
            )
        if not command.detach:
            releasing.refuse_attached(disk.volume, having)
    return [volume for volume in volumes if clients[volume.global_id]]


def _refuse_running(vm: str, host: Host, deadline: Deadline) -> None:
    try:
        domain = host.domains.find(vm, deadline)
    except VmNotFound:
        return
    if domain.running:
        raise DiskInUseByVm(f"{domain.name} runs; stop it, then revert its disks", vm=domain.uuid)


def _refuse_attached(left: Sequence[_Disk], storpool: StorPool, deadline: Deadline) -> None:
    clients = releasing.clients_of([disk.volume for disk in left], storpool, deadline)
    for disk in left:
        releasing.refuse_attached(disk.volume, clients[disk.volume.global_id])


def _keep(disks: Sequence[_Disk], storpool: StorPool, attempt: Attempt, deadline: Deadline) -> None:
    """Of all volumes as they were before the first of them was reverted."""
    kept = dict(text.split(":") for text in attempt.notes(SAFETY))
    with attempt.step("safety", changes=True) as step:
        volumes = [disk.volume for disk in disks]
        if kept.keys() >= {volume.global_id for volume in volumes}:
            step.earlier()
        else:
            operation = f"{attempt.request_id}.{SAFETY}"
            wanted = NewSnapshot(tags={KIND: SAFETY})
            taken = storpool.take_group_snapshot(volumes, wanted, operation, deadline, look_first=attempt.may_have_run)
            kept = {volume.global_id: one.global_id for volume, one in zip(volumes, taken, strict=True)}
            for volume, snapshot in kept.items():
                attempt.note(SAFETY, f"{volume}:{snapshot}")
    for disk in disks:
        disk.safety = kept.get(disk.volume.global_id)


def _revert(disk: _Disk, storpool: StorPool, attempt: Attempt) -> None:
    global_id = disk.volume.global_id
    with attempt.step("revert", changes=True) as step:
        if disk.done:
            step.earlier()
            return
        attempt.note(LIMITS_NOTE, f"{global_id}:{disk.iops}:{disk.bandwidth_kib_sec}")
        finding.note(BEGUN_NOTE, disk.named, disk.volume, attempt)
        disk.begun = True
        storpool.revert_volume(disk.volume, disk.snapshot, Deadline.after(API_TIMEOUT_S))
        disk.done = True
    attempt.note(DONE_NOTE, global_id)


def _limit(disk: _Disk, storpool: StorPool, attempt: Attempt) -> None:
    """Set what the volume had before, and read it back; storpool_qos sets those of a tier whenever it likes."""
    deadline = Deadline.after(FINISH_TIMEOUT_S)
    with attempt.step("limits"):
        change = VolumeChange(iops=disk.iops, bandwidth_kib_sec=disk.bandwidth_kib_sec)
        storpool.update_volume(disk.volume, change, deadline)
        after = storpool.volume(disk.volume.reference, deadline)
        has = (after.iops or 0, after.bandwidth_kib_sec or 0)
        if TIER not in after.tags and has != (disk.iops, disk.bandwidth_kib_sec):
            raise StorPoolBadAnswer(
                f"StorPool took {disk.iops} iops, {disk.bandwidth_kib_sec} KiB/s, and now says {has[0]}, {has[1]}",
                volume=disk.volume.global_id,
            )
    disk.limited = True


def _failed(error: AgentError, at: _Disk, disks: Sequence[_Disk], storpool: StorPool, attempt: Attempt) -> AgentError:
    """Nothing is left of it, or what is: as an error of its own."""
    unknown = at.begun and not at.done and retry_class(error.code) == "uncertain"
    if not unknown and not any(disk.done for disk in disks):
        with attempt.undo("safety"):
            for disk in disks:
                _drop_safety(disk, storpool)
        return error
    said = "it is not known whether it has the data of its snapshot" if unknown else str(error)
    return RevertIncomplete(
        f"at volume {at.volume.global_id}: {said}; send the same with a new id to go on, before the machine is started"
        + (f" ({error})" if unknown else ""),
        **_facts(disks),
    )


def _drop_safety(disk: _Disk, storpool: StorPool) -> None:
    if disk.safety is not None:
        deadline = Deadline.after(FINISH_TIMEOUT_S)
        storpool.delete_volume(storpool.snapshot(parse(f"~{disk.safety}"), deadline), deadline)


def _facts(disks: Sequence[_Disk]) -> dict[str, list[str]]:
    """A limit that is not set again is there as `<global id>:<iops>:<KiB/s>`, 0 for none; updateVolume sets it."""
    return {
        "reverted": [disk.volume.global_id for disk in disks if disk.done],
        "left": [disk.volume.global_id for disk in disks if not disk.done],
        "limits_left": [
            f"{disk.volume.global_id}:{disk.iops}:{disk.bandwidth_kib_sec}"
            for disk in disks
            if disk.begun and not disk.limited
        ],
        "safety_snapshots": [f"{disk.volume.global_id}:{disk.safety}" for disk in disks if disk.safety is not None],
    }
