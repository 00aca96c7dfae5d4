# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The copy of one disk of a running machine, as libvirt has it: looked at, begun, pivoted, ended.

Facts as of libvirt 9.0 with QEMU 7.2. That a copy is ready is what the XML says, and that both are the same now is
what its numbers say: each alone has been wrong (Red Hat Bugzilla 1442266, 1376580).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import sleep
from typing import TypeVar
from xml.etree.ElementTree import Element

import libvirt

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml, image_size, mirror_xml
from storpool_agent.domains.access import Access
from storpool_agent.domains.calls import Call
from storpool_agent.domains.machine import Machine
from storpool_agent.domains.mirror_xml import Stage
from storpool_agent.domains.model import DiskInDomain, Domain, MirrorTarget
from storpool_agent.errors import DiskConflict, SizeChanged, VmBusy, VmNotFound, VmNotRunning, WouldShrink
from storpool_commands.wire import Fact

T = TypeVar("T")

LOOK_S = 0.05  # for what takes libvirt some 20 ms
# The job is not to be one of the configuration, which libvirt 9.0 refuses for a persistent machine.
_BEGIN_FLAGS = libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
_PIVOT_FLAGS = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT | libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC


@dataclass(frozen=True)
class Look:
    """The copy at one moment."""

    stage: Stage
    done: int = 0
    total: int = 0
    """It grows with what the guest writes."""

    @property
    def same(self) -> bool:
        """Both have the same contents now, and get the same writes."""
        return self.stage is Stage.READY and self.done == self.total > 0


@dataclass(frozen=True)
class CopyJob:
    """Stateless: any number may look at the same copy. Each call of libvirt is made in the machine's turn."""

    access: Access
    disk: DiskInDomain
    target: MirrorTarget

    @property
    def name(self) -> str:
        return f"the copy of {self.disk.target} of {self.disk.domain.name} to {self.target.path}"

    @property
    def facts(self) -> dict[str, Fact]:
        return {"vm": self.disk.domain.uuid, "target": self.disk.target, "path": self.target.path}

    def look(self, deadline: Deadline) -> Look:
        """Raises VmNotFound, VmNotRunning, VmBusy for another block job, DiskConflict for another disk or copy."""
        stage = self.stage(deadline)
        if stage not in (Stage.COPYING, Stage.READY):
            return Look(stage)
        info = self._call(lambda vm: vm.blockJobInfo(self.disk.target), deadline)
        # The XML still has, for some ms and without `ready`, a mirror whose job has just ended or been pivoted.
        return Look(stage, info["cur"], info["end"]) if info else Look(Stage.SETTLING)

    def stage(self, deadline: Deadline) -> Stage:
        """As `look`, of the XML alone: libvirtd answers that without asking QEMU."""
        return self._stage(live_disk(self.access, self.disk, (self.disk.path, self.target.path), deadline))

    def refuse_other_size(self, deadline: Deadline) -> None:
        """QEMU copies to a target of the same size only, and does not say that this is why it gives up."""
        ours, theirs = capacity(self.access, self.disk, deadline), image_size.size_bytes(self.target)
        if ours == theirs:
            return
        refusal = WouldShrink if theirs < ours else SizeChanged
        raise refusal(
            f"{self.target.path} has {theirs} bytes and {self.disk.target} of {self.disk.domain.name} has {ours}: a "
            "running disk is copied to one of the same size",
            **self.facts,
            size_bytes=theirs,
            expected_size_bytes=ours,
        )

    def begin(self, bandwidth_bytes_s: int | None, deadline: Deadline) -> None:
        """All of the disk is copied, also what is in images below it."""
        parameters = {} if bandwidth_bytes_s is None else {"bandwidth": bandwidth_bytes_s}
        destination = mirror_xml.destination(self.target)
        self._call(lambda vm: vm.blockCopy(self.disk.target, destination, parameters, _BEGIN_FLAGS), deadline)

    def pivot(self, deadline: Deadline) -> None:
        """Asks for it. What becomes of it is seen by looking."""
        self._call(lambda vm: vm.blockJobAbort(self.disk.target, _PIVOT_FLAGS), deadline)

    def settle(self, deadline: Deadline) -> Stage:
        """The stage, once it is none that passes by itself."""
        while (stage := self.look(deadline).stage) is Stage.SETTLING:
            if deadline.passed:
                raise VmBusy(f"{self.name} is being ended, and has not come to its end yet", **self.facts)
            sleep(LOOK_S)
        return stage

    def _stage(self, disk: Element) -> Stage:
        if not disk_xml.has_block_job(disk):
            return Stage.MOVED if disk_xml.source(disk) == self.target.path else Stage.NONE
        if mirror_xml.is_settling(disk):
            return Stage.SETTLING
        if mirror_xml.is_other_job(disk):
            raise VmBusy(f"{self.disk.target} of {self.disk.domain.name} has another block job", **self.facts)
        if not mirror_xml.is_mirrored_to(disk, self.target.path):
            raise DiskConflict(
                f"{self.disk.target} of {self.disk.domain.name} is being copied elsewhere, not to {self.target.path}",
                **self.facts,
            )
        return Stage.READY if mirror_xml.is_ready(disk) else Stage.COPYING

    def _call(self, call: Call[T], deadline: Deadline) -> T:
        return _call(self.access, self.disk.domain, call, deadline)


def live_machine(access: Access, domain: Domain, deadline: Deadline) -> Machine:
    """Raises VmNotFound, VmNotRunning."""
    machine = access.read(domain.uuid, deadline)
    if machine is None:
        raise VmNotFound(f"there is no machine {domain.name} any more", vm=domain.uuid)
    if machine.live is None:
        raise VmNotRunning(f"{domain.name} is not running, so no copy of its disks is", vm=domain.uuid)
    return machine


def live_disk(access: Access, disk: DiskInDomain, paths: Sequence[str], deadline: Deadline) -> Element:
    """The disk at its target, whose source is one of the paths, exactly. Raises as `live_machine`, and DiskConflict."""
    found = live_machine(access, disk.domain, deadline).live_at(disk.target)
    path = None if found is None else disk_xml.source(found)
    if found is None or path not in paths:
        raise DiskConflict(
            f"{disk.target} of {disk.domain.name} is {path or 'nothing'} by now, and no longer {disk.path}",
            vm=disk.domain.uuid,
            target=disk.target,
        )
    return found


def capacity(access: Access, disk: DiskInDomain, deadline: Deadline) -> int:
    """Bytes, as the guest sees it. Raises as `live_disk`."""
    live_disk(access, disk, (disk.path,), deadline)
    return _call(access, disk.domain, lambda vm: vm.blockInfo(disk.path)[0], deadline)


def _call(access: Access, domain: Domain, call: Call[T], deadline: Deadline) -> T:
    with access.calls.turn(domain.uuid, deadline):
        return access.call(domain.uuid, call, deadline)
