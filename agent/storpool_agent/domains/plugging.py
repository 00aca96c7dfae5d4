# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Giving a machine a disk.

Running machine and configuration are changed by one call of libvirt: it prepares the configuration, plugs, and
then saves, so that a refusal by either leaves both as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import libvirt
import structlog

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml, places
from storpool_agent.domains.access import Access
from storpool_agent.domains.disk_xml import SourcePaths
from storpool_agent.domains.machine import Machine
from storpool_agent.domains.model import Disk, DiskInDomain, Domain
from storpool_agent.domains.unplugging import Unplugging
from storpool_agent.errors import (
    AgentError,
    DiskConflict,
    DiskInUseByVm,
    LibvirtRefused,
    LibvirtTimeout,
    TargetTaken,
    VmNotFound,
    VmNotRunning,
)

PICKS = 3  # somebody else (virsh, the management plane's own agent) may take the target that was free
UNDO_WAIT_S = 5.0  # a guest lets go of a disk it has just been given in 0.1 s
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Plugging:
    """One disk for one machine. Used in the machine's turn, once."""

    access: Access
    domain: Domain
    disk: Disk
    deadline: Deadline

    def run(self) -> DiskInDomain:
        paths = SourcePaths([self.disk.path])
        found = self._look(paths)
        present = found.disks(paths)
        flags = self._missing(found, present)
        if not flags:
            return self._verified(present)
        try:
            self._attach(found, present, flags)
        except AgentError as failure:
            return self._settle(failure, paths, present)
        return self._verified(self._read().disks(paths))

    def place(self) -> str:
        """The target that `run` would take. Changes nothing."""
        paths = SourcePaths([self.disk.path])
        found = self._look(paths)
        present = found.disks(paths)
        self._missing(found, present)
        target, _ = places.choose(found, self.disk, present[0].target if present else None)
        return target

    def _look(self, paths: SourcePaths) -> Machine:
        """All machines are looked at: QEMU's lock says nothing of one that is only configured to have the disk."""
        ours: Machine | None = None
        for one in self.access.read_all(self.deadline):
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
        wanted = (self.disk.bus, self.disk.mode, self.disk.target or there.target, self.disk.secret)
        if wanted != (there.bus, there.mode, there.target, there.secret):
            opened = "not encrypted" if there.secret is None else f"encrypted, secret {there.secret}"
            raise DiskConflict(
                f"{self.domain.name} has {self.disk.path} as {there.target} ({there.bus}, {there.mode}, {opened})",
                vm=self.domain.uuid,
                target=there.target,
                bus=there.bus,
                mode=there.mode,
            )

    def _attach(self, found: Machine, present: Sequence[DiskInDomain], flags: int) -> None:
        same_as_there = present[0].target if present else None
        for pick in range(1, PICKS + 1):
            place = places.choose(found, self.disk, same_as_there)
            element = disk_xml.element(self.disk, *place)
            try:
                self._call(element, flags)
            except TargetTaken:
                if self.disk.target or same_as_there or pick == PICKS:
                    raise
                found = self._read()
            else:
                return

    def _call(self, element: str, flags: int) -> None:
        self.access.call(self.domain.uuid, lambda vm: vm.attachDeviceFlags(element, flags), self.deadline)

    def _settle(self, failure: AgentError, paths: SourcePaths, before: Sequence[DiskInDomain]) -> DiskInDomain:
        """The call failed, or its answer was lost: what the machine has now decides."""
        try:
            now = self._read().disks(paths)
        except AgentError:
            raise failure from None
        if isinstance(failure, LibvirtTimeout) and self._is_complete(now):
            return now[0]
        if now != before:
            self._undo(now[0])
        raise failure

    def _undo(self, half: DiskInDomain) -> None:
        log.warning("plug undone", vm=self.domain.uuid, target=half.target, live=half.live, config=half.config)
        try:
            Unplugging(self.access, self.domain, half, self.deadline).run(UNDO_WAIT_S)
        except AgentError as error:
            log.warning("undo failed", vm=self.domain.uuid, target=half.target, reason=str(error))

    def _read(self) -> Machine:
        found = self.access.read(self.domain.uuid, self.deadline)
        if found is None:
            raise VmNotFound(f"{self.domain.name} went away meanwhile", vm=self.domain.uuid)
        return found

    def _verified(self, present: Sequence[DiskInDomain]) -> DiskInDomain:
        if not self._is_complete(present):
            raise LibvirtRefused(
                f"libvirt said yes, but {self.domain.name} does not have {self.disk.path}", vm=self.domain.uuid
            )
        return present[0]

    def _is_complete(self, present: Sequence[DiskInDomain]) -> bool:
        live = any(there.live for there in present)
        config = any(there.config for there in present)
        return bool(present) and live >= self.disk.live and config >= self.disk.config
