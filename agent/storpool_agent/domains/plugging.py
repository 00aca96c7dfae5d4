# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Giving a machine a disk.

Running machine and configuration are changed by one call of libvirt: it prepares the configuration, plugs, and
then saves, so that a refusal by either leaves both as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import libvirt

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml, machine, places
from storpool_agent.domains.calls import DomainCalls
from storpool_agent.domains.disk_xml import SourcePaths
from storpool_agent.domains.link import Link
from storpool_agent.domains.machine import Machine
from storpool_agent.domains.model import Disk, DiskInDomain, Domain
from storpool_agent.domains.refusals import translated
from storpool_agent.errors import DiskConflict, DiskInUseByVm, LibvirtRefused, TargetTaken, VmNotFound, VmNotRunning

PICKS = 3  # somebody else (virsh, the management plane's own agent) may take the target that was free


@dataclass(frozen=True)
class Plugging:
    """One disk for one machine. Used in the machine's turn, once."""

    link: Link
    calls: DomainCalls
    domain: Domain
    disk: Disk
    deadline: Deadline

    def run(self) -> DiskInDomain:
        paths = SourcePaths([self.disk.path])
        found = self._look(paths)
        present = found.disks(paths)
        flags = self._missing(found, present)
        if flags:
            self._attach(found, present, flags)
            present = self._read().disks(paths)
        return self._complete(present)

    def _look(self, paths: SourcePaths) -> Machine:
        """All machines are looked at: QEMU's lock says nothing of one that is only configured to have the disk."""
        ours: Machine | None = None
        for one in self.link.ask(lambda connection: machine.read_all(connection, self.deadline), self.deadline):
            if one.domain.uuid == self.domain.uuid:
                ours = one
            elif disks := one.disks(paths):
                raise DiskInUseByVm(
                    f"{self.disk.path} is {disks[0].target} of {one.domain.name}",
                    vm=one.domain.uuid,
                    name=one.domain.name,
                    target=disks[0].target,
                )
        if ours is None:
            raise VmNotFound(f"there is no machine {self.domain.name} any more", vm=self.domain.uuid)
        return ours

    def _missing(self, found: Machine, present: Sequence[DiskInDomain]) -> int:
        """What is still to be changed, as libvirt's flags."""
        for there in present:
            self._refuse_other_settings(there)
        if self.disk.live and found.live is None:
            raise VmNotRunning(f"{self.domain.name} is not running", vm=self.domain.uuid)
        flags = 0
        if self.disk.live and not any(there.live for there in present):
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        if self.disk.config and not any(there.config for there in present):
            flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
        return flags

    def _refuse_other_settings(self, there: DiskInDomain) -> None:
        asked = (self.disk.bus, self.disk.mode, self.disk.target or there.target)
        if asked != (there.bus, there.mode, there.target):
            raise DiskConflict(
                f"{self.domain.name} has {self.disk.path} as {there.target} ({there.bus}, {there.mode})",
                vm=self.domain.uuid,
                target=there.target,
                bus=there.bus,
                mode=there.mode,
            )

    def _attach(self, found: Machine, present: Sequence[DiskInDomain], flags: int) -> None:
        wanted = self.disk.target or (present[0].target if present else None)
        for pick in range(1, PICKS + 1):
            element = disk_xml.element(self.disk, *places.choose(found, self.disk, wanted))
            try:
                self._call(element, flags)
            except TargetTaken:
                if wanted is not None or pick == PICKS:
                    raise
                found = self._read()
            else:
                return

    def _call(self, element: str, flags: int) -> None:
        try:
            self.calls.make(self.domain.uuid, lambda vm: vm.attachDeviceFlags(element, flags), self.deadline)
        except libvirt.libvirtError as error:
            refusal = translated(error)
            refusal.facts.setdefault("vm", self.domain.uuid)
            raise refusal from error

    def _read(self) -> Machine:
        found = self.link.ask(lambda connection: machine.read(connection, self.domain.uuid), self.deadline)
        if found is None:
            raise VmNotFound(f"{self.domain.name} went away meanwhile", vm=self.domain.uuid)
        return found

    def _complete(self, present: Sequence[DiskInDomain]) -> DiskInDomain:
        live = any(there.live for there in present)
        config = any(there.config for there in present)
        if not present or (self.disk.live and not live) or (self.disk.config and not config):
            raise LibvirtRefused(
                f"libvirt said yes, but {self.domain.name} does not have {self.disk.path}",
                vm=self.domain.uuid,
                live=live,
                config=config,
            )
        return present[0]
