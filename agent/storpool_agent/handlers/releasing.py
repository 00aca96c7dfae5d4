# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What has to be attached nowhere before it is deleted, reverted or given to others; and fenceVolumes."""

from collections.abc import Sequence

import structlog

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import DiskInUseByVm, FenceIncomplete, VolumeBusy
from storpool_agent.handlers import connecting, finding
from storpool_agent.host import Host, StorPool
from storpool_agent.storpool.model import Volume
from storpool_commands.volumes import FencedVolume, FencedVolumes, FenceVolumes, Forced

API_TIMEOUT_S = 60.0

log = structlog.get_logger()


def fence(command: FenceVolumes, host: Host, attempt: Attempt) -> FencedVolumes:
    """Detach everywhere, by force; what then counts is StorPool's list, not that it said yes."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = host.pools.get(command.pool).storpool
    with attempt.step("find"):
        volumes = finding.all_volumes(command.volumes, storpool, deadline)
    with attempt.step("check"):
        connecting.refuse_migrating(attempt, volumes)
        refuse_running(volumes, host, deadline)
        for each in volumes:
            connecting.refuse_jobs(each, attempt)
        before = clients_of(volumes, storpool, deadline)
    with attempt.step("release", changes=True) as step:
        attached = [each for each in volumes if before[each.global_id]]
        if attached:
            _force(attached, before, command.reason, storpool, deadline)
        else:
            step.already()
    with attempt.step("confirm"):
        left = clients_of(volumes, storpool, deadline)
        if kept := [_at(each, left) for each in volumes if left[each.global_id]]:
            raise FenceIncomplete(
                f"still attached although StorPool was told to detach by force: {'; '.join(kept)}; "
                "do not start the machine elsewhere, fence again",
                volumes=[each.global_id for each in volumes if left[each.global_id]],
                clients=sorted({str(client) for clients in left.values() for client in clients}),
            )
    fenced = [FencedVolume(global_id=each.global_id, detached_from=before[each.global_id]) for each in volumes]
    return FencedVolumes(volumes=fenced)


def free(volume: Volume, command: Forced, host: Host, storpool: StorPool, attempt: Attempt, deadline: Deadline) -> None:
    """Go on only when it is attached nowhere; what is, is detached by force if the command says so.

    Raises VolumeBusy naming the clients, DiskInUseByVm. By force only when libvirt has said that no running machine
    of this host has it.
    """
    with attempt.step("check"):
        connecting.refuse_migrating(attempt, [volume])
        having = clients_of([volume], storpool, deadline)
        if having[volume.global_id]:
            connecting.refuse_jobs(volume, attempt)
            if not command.detach_force:
                refuse_attached(volume, having[volume.global_id])
            refuse_running([volume], host, deadline)
    if having[volume.global_id]:
        with attempt.step("release", changes=True):
            _force([volume], having, command.reason or "", storpool, deadline)
        with attempt.step("confirm"):
            refuse_attached(volume, clients_of([volume], storpool, deadline)[volume.global_id])


def clients_of(volumes: Sequence[Volume], storpool: StorPool, deadline: Deadline) -> dict[str, list[int]]:
    """The clients that have each of them, by global id."""
    clients: dict[str, list[int]] = {each.global_id: [] for each in volumes}
    for attachment in storpool.attachments(deadline):
        if attachment.global_id in clients:
            clients[attachment.global_id].append(attachment.client)
    return {global_id: sorted(having) for global_id, having in clients.items()}


def refuse_attached(volume: Volume, clients: Sequence[int]) -> None:
    """Raises VolumeBusy when there are any."""
    if clients:
        kind = "snapshot" if volume.snapshot else "volume"
        names = [str(each) for each in clients]
        raise VolumeBusy(
            f"{kind} {volume.global_id} is attached to client {', '.join(names)}; detach it there, then try again",
            volume=volume.global_id,
            clients=names,
        )


def refuse_running(volumes: Sequence[Volume], host: Host, deadline: Deadline) -> None:
    """Raises DiskInUseByVm when a running machine of this host has one of them; needs libvirt to say so."""
    paths = [path for each in volumes for path in connecting.paths(each, host)]
    live = [disk for disk in host.domains.having(paths, deadline) if disk.live]
    if live:
        raise DiskInUseByVm(
            f"{', '.join(f'{disk.path} is {disk.target} of the running {disk.domain.name}' for disk in live)}; "
            "detachDisk it first, or stop the machine",
            vms=[disk.domain.uuid for disk in live],
            paths=[disk.path for disk in live],
        )


def _force(
    volumes: Sequence[Volume], clients: dict[str, list[int]], why: str, storpool: StorPool, deadline: Deadline
) -> None:
    for each in volumes:
        log.warning("detaching by force", target=each.global_id, clients=clients[each.global_id], why=why)
    storpool.release(volumes, deadline, force=True)


def _at(volume: Volume, clients: dict[str, list[int]]) -> str:
    return f"{volume.global_id} at client {', '.join(map(str, clients[volume.global_id]))}"
