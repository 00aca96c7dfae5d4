# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""migrateVolume of a disk whose machine runs: QEMU mirrors it to its new place, and then uses that instead.

What says how far it has come is the machine itself: a disk that is at its new place has moved.
"""

import json
import os
from dataclasses import dataclass

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import DiskInDomain, Domain, MirrorTarget
from storpool_agent.errors import DiskNotFound, InvalidCommand
from storpool_agent.handlers import connecting, downloads, finding, moving, temporaries
from storpool_agent.handlers.copying import API_TIMEOUT_S, Copy, closed_after
from storpool_agent.handlers.sources import whole_sectors
from storpool_agent.host import Host, Pool
from storpool_agent.images.model import Image
from storpool_agent.journal.temporaries import ATTACHMENT
from storpool_agent.storpool.model import NewVolume, Volume
from storpool_commands.copies import MigratedVolume, MigrateVolume
from storpool_commands.images import StoredImage
from storpool_commands.labels import VM
from storpool_commands.references import Reference

CALL_TIMEOUT_S = 60.0
TARGET = "live-target"
"""The note which volume a machine's disk is being mirrored to."""
FILE_MADE = "live-file"
"""The note which file, by its inode."""


def to_file(command: MigrateVolume, host: Host, attempt: Attempt) -> MigratedVolume:
    """From a volume to a new file of a directory that machines of this host may use."""
    pool, target = host.pools.get(command.pool), command.target
    copy, vm = Copy(command, host, attempt), command.vm
    if target is None or vm is None:
        raise InvalidCommand("no target")
    with temporaries.of(host, attempt):
        with attempt.step("find"):
            volume = finding.volume_or_none(command.volume or "", pool.storpool, _soon())
            domain = host.domains.find(vm, _soon())
            disk = _disk(domain, connecting.paths(volume, host), host) if volume else None
        if volume is not None:
            attempt.fence(volume.global_id, command.generation)
        copy.acquire(target.store)
        if disk is not None and volume is not None:
            _make_file(copy, target, command, host.domains.capacity(disk, _soon()))
        path = host.secondary.local_path(target.store, target.path)
        moved = _Move(copy, domain, disk, MirrorTarget(path, command.format, device=False)).run()
        attempt.stays(temporaries.FILE, temporaries.pair(target.store, target.path))
        size_bytes = host.domains.capacity(moved, _soon())
        if volume is not None:
            with attempt.turns.again(volume.global_id, None):
                connecting.disconnect(volume, host, attempt, _soon())
        moving.delete_source(command, volume, pool, attempt)
    return MigratedVolume(
        method="live",
        volume=None,
        path=path,
        size_bytes=size_bytes,
        source_deleted=command.delete_source,
        virtual_size_bytes=size_bytes,
        block_hash=None,
        copies=attempt.number,
    )


def from_file(command: MigrateVolume, host: Host, attempt: Attempt) -> MigratedVolume:
    """From a file to a new volume, which stays attached for the machine."""
    pool, source = host.pools.get(command.to_pool or command.pool), command.source
    copy, vm = Copy(command, host, attempt), command.vm
    if source is None or vm is None:
        raise InvalidCommand("no source")
    with temporaries.of(host, attempt):
        copy.acquire(source.store)
        with attempt.step("find"):
            domain = host.domains.find(vm, _soon())
            volume = _noted(pool, attempt)
            there = _disk(domain, connecting.paths(volume, host), host) if volume else None
            path = "" if there else host.secondary.local_path(source.store, source.path)
            disk = None if there else _disk(domain, [path], host)
        if disk is None and there is None:
            raise DiskNotFound(f"{domain.name} does not run with {path} as a disk", vm=domain.uuid, path=path)
        if volume is None and disk is not None:
            volume = _make_volume(copy, pool, command, domain, host.domains.capacity(disk, _soon()))
        volume = _moved_to(volume, copy, pool, domain, disk)
        if command.delete_source:
            moving.remove_source(source, host, attempt)
    return moving.at_storpool("live", volume, source_deleted=command.delete_source).model_copy(
        update={"copies": attempt.number}
    )


@dataclass(frozen=True)
class _Move:
    """One disk of one machine to one place."""

    copy: Copy
    domain: Domain
    disk: DiskInDomain | None
    """Where it was; None when it is no longer there."""
    target: MirrorTarget

    def run(self) -> DiskInDomain:
        """Mirror it, unless that is done, and have the machine use it. Raises DiskNotFound when it has neither."""
        host, attempt = self.copy.host, self.copy.attempt
        there = _disk(self.domain, [self.target.path], host)
        disk = self.disk or there
        if disk is None:
            raise DiskNotFound(
                f"{self.domain.name} does not run with the volume as a disk, nor with {self.target.path}",
                vm=self.domain.uuid,
                path=self.target.path,
            )
        mirror = temporaries.pair(self.domain.uuid, self.target.path)
        with attempt.step("copy", changes=True) as step:
            if there is not None:
                step.earlier()
            else:
                attempt.making(temporaries.MIRROR, mirror)
                attempt.turns.give_up()
                host.domains.mirror(disk, self.target, self.copy.task("copy"), _soon())
        with attempt.step("pivot", changes=True):
            moved = host.domains.pivot(disk, self.target, _soon())
        attempt.stays(temporaries.MIRROR, mirror)
        return moved


def _moved_to(volume: Volume | None, copy: Copy, pool: Pool, domain: Domain, disk: DiskInDomain | None) -> Volume:
    """The volume, once the machine uses it and nobody is kept from it any more."""
    if volume is None:
        raise InvalidCommand("no volume")
    attempt, host = copy.attempt, copy.host
    device = temporaries.attach(volume, "rw", host, attempt, _soon())
    _Move(copy, domain, disk, MirrorTarget(device.link, "raw", device=True)).run()
    attempt.temporaries.give_away(ATTACHMENT, volume.global_id)
    attempt.stays(temporaries.VOLUME, temporaries.pair(pool.name, volume.global_id))
    return downloads.release(volume, pool, attempt, _soon())


def _make_volume(copy: Copy, pool: Pool, command: MigrateVolume, domain: Domain, size_bytes: int) -> Volume:
    wanted = NewVolume(
        size_bytes=whole_sectors(size_bytes),
        template=downloads.template_of(pool, command.template),
        name=command.name,
        cluster_id=pool.cluster_id,
        tags={VM: domain.uuid, **command.all_tags(moving.KIND)},
    )
    volume = downloads.create(copy, pool, wanted)
    copy.attempt.note(TARGET, volume.global_id)
    return volume


def _noted(pool: Pool, attempt: Attempt) -> Volume | None:
    """The volume that an earlier run of this request made, and may be mirroring to still."""
    for global_id in attempt.notes(TARGET):
        found = finding.volume_or_none(str(Reference("id", global_id)), pool.storpool, _soon())
        if found is not None:
            return found
    return None


def _make_file(copy: Copy, target: StoredImage, command: MigrateVolume, size_bytes: int) -> None:
    """An image of the disk's size, under its name: a machine's disk cannot be renamed once the machine has it.

    What was made is known by its inode, so that another's file of that name is never taken for it.
    """
    secondary, attempt = copy.host.secondary, copy.attempt
    file = temporaries.pair(target.store, target.path)
    with attempt.step("begin", changes=True) as step:
        if _inode(copy, target) in {json.loads(note)[1] for note in attempt.notes(FILE_MADE)}:
            step.earlier()
            attempt.making(temporaries.FILE, file)
            return
        attempt.making(temporaries.PART, file)
        part = secondary.create_part(target.store, target.path, attempt.request_id)
        image = Image(part.descriptor, command.format, f"{target.path} of {target.store}")
        copy.host.images.create(image, size_bytes, copy.task("begin"))
        attempt.note(FILE_MADE, json.dumps([file, os.fstat(part.descriptor).st_ino]))
        secondary.publish(part)
        attempt.making(temporaries.FILE, file)
        attempt.stays(temporaries.PART, file)


def _inode(copy: Copy, target: StoredImage) -> int | None:
    if not copy.attempt.notes(FILE_MADE) or not copy.host.secondary.exists(target.store, target.path):
        return None
    descriptor = copy.host.secondary.open_image(target.store, target.path)
    with closed_after(descriptor):
        return os.fstat(descriptor).st_ino


def _disk(domain: Domain, paths: list[str], host: Host) -> DiskInDomain | None:
    """The running machine's disk that has one of these sources."""
    having = host.domains.having(paths, Deadline.after(API_TIMEOUT_S))
    return next((disk for disk in having if disk.live and disk.domain.uuid == domain.uuid), None)


def _soon() -> Deadline:
    return Deadline.after(CALL_TIMEOUT_S)
