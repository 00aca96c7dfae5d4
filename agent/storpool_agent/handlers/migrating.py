# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""migrateVolume: within StorPool, and to and from files while no machine uses the disk."""

from contextlib import ExitStack

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import DiskInUseByVm, InvalidCommand, SecondaryNotAllowed, VolumeNotFound
from storpool_agent.handlers import (
    copying,
    downloads,
    finding,
    live_migrating,
    moving,
    releasing,
    temporaries,
    unlocking,
    volumes,
)
from storpool_agent.handlers.copying import API_TIMEOUT_S, Copy, FileFormat, closed_after
from storpool_agent.host import Host, Pool
from storpool_agent.images.model import Image
from storpool_agent.storpool.model import NewVolume, Volume, VolumeChange
from storpool_commands.copies import MigratedVolume, MigrateVolume
from storpool_commands.images import ImageSource, StoredImage


def migrate(command: MigrateVolume, host: Host, attempt: Attempt) -> MigratedVolume:
    """By where it is and where it is to go."""
    if command.source is not None:
        return (live_migrating.from_file if command.vm else _from_file)(command, host, attempt)
    if command.target is not None:
        return (live_migrating.to_file if command.vm else _to_file)(command, host, attempt)
    pool, to_pool = host.pools.get(command.pool), host.pools.get(command.to_pool or command.pool)
    if pool.api != to_pool.api:
        raise InvalidCommand(
            f"{pool.name or 'the own pool'} and {to_pool.name or 'the own pool'} are of different clusters; copy the "
            "volume by backupSnapshot and downloadVolume",
            pool=pool.name,
            to_pool=to_pool.name,
        )
    return (_copied if command.new_volume else _in_place)(command, to_pool, attempt)


def _in_place(command: MigrateVolume, pool: Pool, attempt: Attempt) -> MigratedVolume:
    """StorPool moves the data, also of a volume that is in use."""
    deadline = Deadline.after(API_TIMEOUT_S)
    with attempt.step("find"):
        volume = finding.all_volumes([command.volume or ""], pool.storpool, deadline)[0]
        attempt.fence(volume.global_id, command.generation)
    template = downloads.template_of(pool, command.template)
    wanted = VolumeChange(template=None if template == volume.template else template)
    after = volumes.change(volume, wanted, pool.storpool, attempt, deadline)
    return moving.at_storpool("inPlace", after)


def _copied(command: MigrateVolume, pool: Pool, attempt: Attempt) -> MigratedVolume:
    """A new volume that begins as the old one is. The old one is attached nowhere, so it is not written meanwhile."""
    deadline = Deadline.after(API_TIMEOUT_S)
    storpool = pool.storpool
    with attempt.step("find"):
        volume = finding.volume_or_none(command.volume or "", storpool, deadline)
        made = list(storpool.volumes_made_by(attempt.request_id, deadline)) if attempt.may_have_run else []
        if volume is None and not made:
            raise VolumeNotFound(f"StorPool has no volume {command.volume}", volume=command.volume)
    if volume is not None:
        with attempt.step("check"):
            attempt.fence(volume.global_id, command.generation)
            clients = releasing.clients_of([volume], storpool, deadline)
            releasing.refuse_attached(volume, clients[volume.global_id])
    with attempt.step("create", changes=True) as step:
        if made:
            step.earlier()
        else:
            wanted = NewVolume(
                size_bytes=volume.size_bytes if volume else 0,
                template=downloads.template_of(pool, command.template),
                name=command.name,
                base_on=volume,
                cluster_id=pool.cluster_id,
                tags=command.all_tags(moving.KIND),
            )
            made = [storpool.create_volume(wanted, attempt.request_id, deadline)]
    moving.delete_source(command, volume, pool, attempt)
    return moving.at_storpool("copyInStorPool", made[0], source_deleted=command.delete_source)


def _to_file(command: MigrateVolume, host: Host, attempt: Attempt) -> MigratedVolume:
    """The volume is attached to this host for writing, so that nobody else writes to it; and nobody reads it here."""
    deadline = Deadline.after(API_TIMEOUT_S)
    pool = host.pools.get(command.pool)
    copy, target = Copy(command, host, attempt), command.target
    if target is None:
        raise InvalidCommand("no target")
    with temporaries.of(host, attempt):
        with attempt.step("find"):
            volume = finding.volume_or_none(command.volume or "", pool.storpool, deadline)
            if volume is None and not copy.earlier():
                raise VolumeNotFound(f"StorPool has no volume {command.volume}", volume=command.volume)
            if volume is not None:
                unlocking.refuse_copying(volume)
        copy.acquire(target.store)
        if volume is not None:
            attempt.fence(volume.global_id, command.generation)
            stored = _copied_out(copy, volume, target, FileFormat(command.format), deadline)
            done = stored.verified
            attempt.stays(temporaries.FILE, stored.made)
            downloads.detach(volume, copy)
            moving.delete_source(command, volume, pool, attempt)
        else:
            done = copy.earlier()[0]
    return MigratedVolume(
        method="offline",
        volume=None,
        path=f"{target.store}/{target.path}",
        size_bytes=done.virtual_size_bytes,
        source_deleted=command.delete_source,
        virtual_size_bytes=done.virtual_size_bytes,
        block_hash=done.block_hash,
        copies=done.copies,
    )


def _copied_out(copy: Copy, volume: Volume, target: StoredImage, how: FileFormat, deadline: Deadline) -> copying.Stored:
    with copy.attempt.step("check"):
        if volume.global_id not in {one.target for one in copy.attempt.temporaries.of(copy.attempt.request_id)}:
            clients = releasing.clients_of([volume], copy.host.storpool, deadline)
            releasing.refuse_attached(volume, clients[volume.global_id])
    device = temporaries.attach(volume, "rw", copy.host, copy.attempt, deadline)
    with ExitStack() as files:
        image = Image(copy.host.devices.open(device, "ro"), "raw", device.link, device=True)
        files.enter_context(closed_after(image.descriptor))
        return copying.to_file(copy, image, volume.size_bytes, target, how)


def _from_file(command: MigrateVolume, host: Host, attempt: Attempt) -> MigratedVolume:
    """As downloadVolume, from a file that no machine of this host has open."""
    pool = host.pools.get(command.to_pool or command.pool)
    copy, file = Copy(command, host, attempt), command.source
    if file is None or command.source_format is None:
        raise InvalidCommand("no source")
    with attempt.step("check"):
        _refuse_machines(file, host)
    wanted = NewVolume(
        size_bytes=0,
        template=downloads.template_of(pool, command.template),
        name=command.name,
        cluster_id=pool.cluster_id,
        tags=command.all_tags(moving.KIND),
    )
    source = ImageSource(store=file.store, path=file.path, format=command.source_format)
    with temporaries.of(host, attempt):
        filled = downloads.fill(copy, pool, source, None, wanted)
        volume = downloads.release(filled.volume, pool, attempt, Deadline.after(API_TIMEOUT_S))
        attempt.stays(temporaries.VOLUME, temporaries.pair(pool.name, volume.global_id))
        if command.delete_source:
            copy.acquire(file.store)
            moving.remove_source(file, host, attempt)
    done = filled.verified
    return moving.at_storpool("offline", volume, source_deleted=command.delete_source).model_copy(
        update={"virtual_size_bytes": done.virtual_size_bytes, "block_hash": done.block_hash, "copies": done.copies}
    )


def _refuse_machines(file: StoredImage, host: Host) -> None:
    """Only a file of a `file://` store can be a disk of a machine under a path that is known here."""
    try:
        path = host.secondary.local_path(file.store, file.path)
    except SecondaryNotAllowed:
        host.secondary.check(file.store)
        return
    live = [disk for disk in host.domains.having([path], Deadline.after(API_TIMEOUT_S)) if disk.live]
    if live:
        raise DiskInUseByVm(
            f"{path} is {live[0].target} of the running {live[0].domain.name}; give vm to move it while it runs",
            vms=[disk.domain.uuid for disk in live],
            paths=[path],
        )
