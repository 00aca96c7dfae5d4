# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Limits of a machine's disk.

libvirt replaces, of requests and of bytes each, all three limits when one of them is named: so those that are to
stay are named too.
"""

from dataclasses import dataclass

import libvirt

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml
from storpool_agent.domains.access import Access
from storpool_agent.domains.disk_xml import SourcePaths
from storpool_agent.domains.model import DiskInDomain, Domain
from storpool_agent.errors import DiskNotFound, InvalidCommand, LibvirtRefused, VmNotFound
from storpool_commands.disks import IoTune

_IMPOSSIBLE = (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED)
Limits = dict[str, int]


@dataclass(frozen=True)
class _Half:
    """The disk in the running machine, or in its configuration."""

    path: str
    flag: int


@dataclass(frozen=True)
class Tuning:
    """One disk of one machine. Used in the machine's turn, once."""

    access: Access
    domain: Domain
    disk: DiskInDomain
    deadline: Deadline

    def run(self, limits: IoTune) -> IoTune:
        halves = self._halves()
        named = limits.model_dump(exclude_none=True)
        found = self.access.call(self.domain.uuid, lambda vm: self._tune(vm, halves, named), self.deadline)
        if named.items() - found.items():
            raise LibvirtRefused(
                f"libvirt said yes, but {self.disk.target} of {self.domain.name} has other limits", vm=self.domain.uuid
            )
        return IoTune(**found)

    def _halves(self) -> list[_Half]:
        """The running one first."""
        machine = self.access.read(self.domain.uuid, self.deadline)
        if machine is None:
            raise VmNotFound(f"there is no machine {self.domain.name} any more", vm=self.domain.uuid)
        paths = SourcePaths([self.disk.path])
        parts = (
            (machine.live_disk(paths), libvirt.VIR_DOMAIN_AFFECT_LIVE),
            (machine.config_disk(paths), libvirt.VIR_DOMAIN_AFFECT_CONFIG),
        )
        halves = [_Half(disk_xml.source(disk) or "", flag) for disk, flag in parts if disk is not None]
        if not halves:
            raise DiskNotFound(f"{self.domain.name} does not have {self.disk.path} any more", vm=self.domain.uuid)
        return halves

    def _tune(self, vm: libvirt.virDomain, halves: list[_Half], named: Limits) -> Limits:
        """What the first half has then. All is checked before any is set."""
        merged = [self._merged(_limits(vm, half), named) for half in halves]
        for half, wanted in zip(halves, merged, strict=True):
            try:
                vm.setBlockIoTune(half.path, wanted, half.flag)
            except libvirt.libvirtError as error:
                if error.get_error_code() in _IMPOSSIBLE:
                    raise InvalidCommand(f"iotune: {error}", vm=self.domain.uuid, target=self.disk.target) from error
                raise
        return _limits(vm, halves[0])

    def _merged(self, present: Limits, named: Limits) -> Limits:
        merged = {**present, **named}
        for unit in ("bytes", "iops"):
            total, read, write = (merged[f"{what}_{unit}_sec"] for what in ("total", "read", "write"))
            if total and (read or write):
                raise InvalidCommand(
                    f"iotune: {self.disk.target} of {self.domain.name} would have a total limit of {unit} ({total}) "
                    f"besides one of its own for reads ({read}) or writes ({write}); set to 0 what is not to stay",
                    vm=self.domain.uuid,
                    target=self.disk.target,
                )
        return merged


def _limits(vm: libvirt.virDomain, half: _Half) -> Limits:
    everything = vm.blockIoTune(half.path, half.flag)
    return {name: int(everything[name]) for name in IoTune.model_fields}
