# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""migrateVolume of a disk whose machine runs: QEMU mirrors it to its new place, and then uses that instead.

What says how far it has come is the machine itself: a disk that is at its new place has moved.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import DiskInDomain, Domain, MirrorTarget
from storpool_agent.encryption_errors import EncryptedUnsupported
from storpool_agent.errors import DiskNotFound, InvalidCommand, LibvirtTimeout
from storpool_agent.handlers import connecting, copying, downloads, finding, moving, temporaries, unlocking
from storpool_agent.handlers.copying import API_TIMEOUT_S, Copy
from storpool_agent.handlers.sources import whole_sectors
from storpool_agent.host import Host, Pool
from storpool_agent.images.model import Image
from storpool_agent.journal.temporaries import ATTACHMENT
from storpool_agent.storpool.model import NewVolume, Volume
from storpool_commands.copies import MigratedVolume, MigrateVolume
from storpool_commands.images import StoredImage
from storpool_commands.labels import VM
from storpool_commands.references import Reference

log = structlog.get_logger()

CALL_TIMEOUT_S = 60.0
TARGET = "live-target"
"""The note which volume a machine's disk is being mirrored to."""


def to_file(command: MigrateVolume, host: Host, attempt: Attempt) -> MigratedVolume:
    """From a volume to a new file of a directory that machines of this host may use."""
    pool, target = host.pools.get(command.pool), command.target
    copy, vm = Copy(command, host, attempt), command.vm
    if target is None or vm is None:
        raise InvalidCommand("no target")
    with temporaries.of(host, attempt):
        with attempt.step("find"):
            volume = finding.volume_or_none(command.volume or "", pool.storpool, _soon())
            if volume is not None:
                unlocking.refuse_copying(volume)
            domain = host.domains.find(vm, _soon())
            connecting.refuse_migrating(attempt, vm=domain.uuid)
            old_paths = connecting.paths(volume, host) if volume else []
            disk = _disk(domain, old_paths, host)
        if volume is not None:
            attempt.fence(volume.global_id, command.generation)
        copy.acquire(target.store)
        if disk is not None and volume is not None:
            _make_file(copy, target, command, host.domains.capacity(disk, _soon()))
        path = host.secondary.local_path(target.store, target.path)
        made = (temporaries.FILE, _file_there(copy, target))
        move = _Move(copy, _Origin(domain, disk, old_paths), MirrorTarget(path, command.format, device=False), made)
        move.mirror()
        moved = move.pivot()
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
            connecting.refuse_migrating(attempt, vm=domain.uuid)
            volume = _noted(pool, attempt)
            there = _disk(domain, connecting.paths(volume, host), host) if volume else None
            path = host.secondary.local_path(source.store, source.path)
            disk = None if there else _disk(domain, [path], host)
        if disk is not None and disk.secret is not None:
            raise EncryptedUnsupported(
                f"{path} is an encrypted disk of {domain.name}: its copy would be plain text", vm=domain.uuid, path=path
            )
        if disk is None and there is None:
            raise DiskNotFound(f"{domain.name} does not run with {path} as a disk", vm=domain.uuid, path=path)
        if volume is None and disk is not None:
            volume = _make_volume(copy, pool, command, domain, host.domains.capacity(disk, _soon()))
        volume = _moved_to(volume, copy, pool, _Origin(domain, disk, [path]))
        if command.delete_source:
            moving.remove_source(source, host, attempt)
    return moving.at_storpool("live", volume, source_deleted=command.delete_source).model_copy(
        update={"copies": attempt.number}
    )


@dataclass(frozen=True)
class _Origin:
    """A machine's disk before it moves."""

    domain: Domain
    disk: DiskInDomain | None
    """None when the machine no longer runs with it."""
    paths: Sequence[str]
    """By which the machine may name it."""


@dataclass(frozen=True)
class _Move:
    """One disk of one machine to one place."""

    copy: Copy
    origin: _Origin
    target: MirrorTarget
    made: tuple[str, str]
    """The row of what was made for it: kind and target."""

    def mirror(self) -> None:
        """Until both are the same, unless the machine has moved already."""
        attempt = self.copy.attempt
        with attempt.step("copy", changes=True) as step:
            if self._there() is not None:
                step.earlier()
                return
            attempt.instead([self._mirror, self.made], [self._moving])
            attempt.turns.give_up()
            self.copy.host.domains.mirror(self._before(), self.target, self.copy.task("copy"), _soon())

    def pivot(self) -> DiskInDomain:
        """Have the machine use it. From before that on what was made is not deleted unless it certainly does not."""
        attempt = self.copy.attempt
        with attempt.step("pivot", changes=True):
            attempt.instead([self._moving], [self._mirror, self.made])
            moved = self._pivoted()
        attempt.stays(*self._moving)
        return moved

    def _pivoted(self) -> DiskInDomain:
        """What the machine says counts, when the answer is lost. Once more then sets what is missing in its
        configuration."""
        domains, disk = self.copy.host.domains, self._before()
        try:
            return domains.pivot(disk, self.target, _soon())
        except LibvirtTimeout:
            if self._there() is None:
                raise
            log.warning("pivoted after all", vm=self.origin.domain.uuid, path=self.target.path)
            return domains.pivot(disk, self.target, _soon())

    def _there(self) -> DiskInDomain | None:
        return _disk(self.origin.domain, [self.target.path], self.copy.host)

    def _before(self) -> DiskInDomain:
        """Raises DiskNotFound when the machine has neither."""
        there = None if self.origin.disk else self._there()
        disk = self.origin.disk or (there and self._left_over(there)) or there
        if disk is None:
            raise DiskNotFound(
                f"{self.origin.domain.name} does not run with the volume as a disk, nor with {self.target.path}",
                vm=self.origin.domain.uuid,
                path=self.target.path,
            )
        return disk

    def _left_over(self, there: DiskInDomain) -> DiskInDomain | None:
        """The old place, when the machine runs from the new one and its configuration alone was not moved: an agent
        died between the two."""
        having = self.copy.host.domains.having(self.origin.paths, _soon())
        return next((one for one in having if (one.domain.uuid, one.target) == (there.domain.uuid, there.target)), None)

    @property
    def _mirror(self) -> tuple[str, str]:
        return temporaries.MIRROR, temporaries.pair(self.origin.domain.uuid, self.target.path)

    @property
    def _moving(self) -> tuple[str, str]:
        old_path = self.origin.disk.path if self.origin.disk else ""
        return temporaries.MOVING, temporaries.moving(self.origin.domain.uuid, old_path, self.target.path, self.made)


def _moved_to(volume: Volume | None, copy: Copy, pool: Pool, origin: _Origin) -> Volume:
    """The volume, once the machine uses it. Nobody is kept from it any more when it is the same as the machine's disk:
    were that later, a crash could leave the machine with a volume that nobody may use."""
    if volume is None:
        raise InvalidCommand("no volume")
    attempt, host = copy.attempt, copy.host
    device = temporaries.attach(volume, "rw", host, attempt, _soon())
    made = (temporaries.VOLUME, temporaries.pair(pool.name, volume.global_id))
    move = _Move(copy, origin, MirrorTarget(device.link, "raw", device=True), made)
    move.mirror()
    volume = downloads.release(volume, pool, attempt, _soon())
    move.pivot()
    attempt.temporaries.give_away(ATTACHMENT, volume.global_id)
    return volume


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
        if attempt.number > 1:
            copying.take_other_name(copy, target)
        present = _file_there(copy, target)
        if present in attempt.notes(temporaries.FILE):
            step.earlier()
            attempt.making(temporaries.FILE, present)
            return
        attempt.making(temporaries.PART, file)
        part = secondary.create_part(target.store, target.path, attempt.request_id)
        image = Image(part.descriptor, command.format, f"{target.path} of {target.store}")
        copy.host.images.create(image, size_bytes, copy.task("begin"))
        made = temporaries.file_of(target.store, target.path, part.descriptor)
        attempt.note(temporaries.FILE, made)
        attempt.making(temporaries.FILE, made)
        secondary.publish(part)
        attempt.stays(temporaries.PART, file)


def _file_there(copy: Copy, target: StoredImage) -> str:
    """The row of the file that is there now."""
    inode = temporaries.inode_of(target.store, target.path, copy.host)
    return json.dumps([target.store, target.path, inode])


def _disk(domain: Domain, paths: Sequence[str], host: Host) -> DiskInDomain | None:
    """The running machine's disk that has one of these sources."""
    having = host.domains.having(paths, Deadline.after(API_TIMEOUT_S))
    return next((disk for disk in having if disk.live and disk.domain.uuid == domain.uuid), None)


def _soon() -> Deadline:
    return Deadline.after(CALL_TIMEOUT_S)
