# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Machines that are left as they are."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic import SecretBytes

from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import (
    Disk,
    DiskInDomain,
    Domain,
    MirrorTarget,
    Passage,
    Platform,
    Portrait,
    Presence,
    Sent,
)
from storpool_agent.dry_run.devices import DryDevices
from storpool_agent.host import Domains
from storpool_agent.task import Task
from storpool_commands.disks import IoTune


class DryDomains:
    """Looks at the real ones, and asks no guest for anything."""

    def __init__(self, real: Domains, devices: DryDevices) -> None:
        self._real = real
        self._devices = devices
        self._unplugged: set[tuple[str, str]] = set()
        """UUID of the machine, path of the disk."""
        self._moved: dict[tuple[str, str], DiskInDomain] = {}
        """The disk as it still is, by the UUID and the path that it would have."""

    def find(self, vm: str, deadline: Deadline) -> Domain:
        return self._real.find(vm, deadline)

    def having(self, paths: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        return self._left(self._real.having(paths, deadline))

    def below(self, directories: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        return self._left(self._real.below(directories, deadline))

    def mirror(self, disk: DiskInDomain, target: MirrorTarget, task: Task, deadline: Deadline) -> None:
        pass

    def pivot(self, disk: DiskInDomain, target: MirrorTarget, deadline: Deadline) -> DiskInDomain:
        self._unplugged.add((disk.domain.uuid, disk.path))
        self._devices.imagine_closed(disk.path, disk.domain.name)
        self._moved[disk.domain.uuid, target.path] = disk
        return replace(disk, path=target.path)

    def end_mirror(self, vm: str, target_path: str, deadline: Deadline) -> None:
        pass

    def capacity(self, disk: DiskInDomain, deadline: Deadline) -> int:
        return self._real.capacity(self._moved.get((disk.domain.uuid, disk.path), disk), deadline)

    def portray(self, vm: str, deadline: Deadline) -> Portrait:
        return self._real.portray(vm, deadline)

    def refuse_misfit(self, platform: Platform, deadline: Deadline) -> None:
        self._real.refuse_misfit(platform, deadline)

    def standing(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> Presence:
        return self._real.standing(vm, deadline, peer=peer)

    def send(self, passage: Passage, begun: Callable[[], None], task: Task, deadline: Deadline) -> bool:
        return False

    def sent(self, vm: str, peer: str, deadline: Deadline) -> Sent:
        return Sent()

    def resume(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> None:
        pass

    def remove(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> None:
        pass

    def set_secret(self, global_id: str, path: str, passphrase: SecretBytes, deadline: Deadline) -> None:
        pass

    def forget_secret(self, global_id: str, deadline: Deadline) -> None:
        pass

    def versions(self, deadline: Deadline) -> tuple[str, str]:
        return self._real.versions(deadline)

    def place(self, domain: Domain, disk: Disk, deadline: Deadline) -> str:
        return self._real.place(domain, disk, deadline)

    def plug(self, domain: Domain, disk: Disk, deadline: Deadline) -> DiskInDomain:
        target = self._real.place(domain, disk, deadline)
        return DiskInDomain(
            domain=domain,
            path=disk.path,
            target=target,
            bus=disk.bus,
            live=disk.live,
            config=disk.config,
            alias=disk.alias,
            serial=disk.serial,
            address=None,
            mode=disk.mode,
            secret=disk.secret,
        )

    def unplug(self, domain: Domain, disk: DiskInDomain, wait_guest_s: float, deadline: Deadline) -> None:
        self._unplugged.add((domain.uuid, disk.path))
        self._devices.imagine_closed(disk.path, domain.name)

    def resize(self, disk: DiskInDomain, size_bytes: int, deadline: Deadline) -> int:
        return size_bytes

    def tune(self, domain: Domain, disk: DiskInDomain, limits: IoTune, deadline: Deadline) -> IoTune:
        """What is set already and not named is not known here."""
        unnamed = {name: 0 for name, value in limits if value is None}
        return limits.model_copy(update=unnamed)

    def freeze(self, domain: Domain, deadline: Deadline) -> None:
        pass

    def thaw(self, domain: Domain, deadline: Deadline) -> bool:
        return True

    def _left(self, disks: Sequence[DiskInDomain]) -> Sequence[DiskInDomain]:
        return [disk for disk in disks if (disk.domain.uuid, disk.path) not in self._unplugged]
