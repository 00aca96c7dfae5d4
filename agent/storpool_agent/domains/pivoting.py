# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Having a running machine use the target of a finished copy, now and at its next start.

libvirt rewrites the configuration itself where that names the disk by the same path; where it names it by another
path of the same device, it leaves it.
"""

from dataclasses import dataclass
from time import sleep
from xml.etree.ElementTree import Element

import libvirt
import structlog

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml, mirror_xml
from storpool_agent.domains.copy_job import LOOK_S, CopyJob, Look, live_machine
from storpool_agent.domains.disk_xml import SourcePaths
from storpool_agent.domains.machine import Machine
from storpool_agent.domains.mirror_xml import Stage
from storpool_agent.domains.model import DiskInDomain
from storpool_agent.errors import AgentError, BlockJobFailed, LibvirtRefused, LibvirtTimeout, LibvirtUnavailable, VmBusy

_ANSWER_LOST = (LibvirtTimeout, LibvirtUnavailable, VmBusy)
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Pivoting:
    """One disk of one machine. Used once."""

    job: CopyJob
    deadline: Deadline

    def run(self) -> DiskInDomain:
        self._pivot()
        with self.job.access.calls.turn(self.job.disk.domain.uuid, self.deadline):
            self._configure()
            return self._read_back()

    def _pivot(self) -> None:
        """What the machine has decides, not what the call has answered."""
        asked = False
        while True:
            unfinished: AgentError = self._no_end()
            try:
                look = self.job.look(self.deadline)
                if look.stage is Stage.MOVED:
                    return
                if not asked:
                    unfinished = self._refuse_unready(look)
                elif look.stage is Stage.NONE:
                    self._refuse_failed()
                if look.same:
                    asked = True
                    log.info("pivoting", **self.job.facts)
                    self.job.pivot(self.deadline)
            except _ANSWER_LOST as lost:
                unfinished = lost
            if self.deadline.passed:
                raise unfinished
            sleep(LOOK_S)

    def _refuse_unready(self, look: Look) -> AgentError:
        """What is to be said of one that is ready, or being pivoted, if there is no time for another look."""
        if look.stage is Stage.NONE:
            raise self._not_complete("there is no such copy (any more)")
        if look.stage is Stage.COPYING:
            raise self._not_complete(f"{look.done} of {look.total} bytes are copied")
        if look.stage is Stage.READY:
            return self._not_complete("the guest has written faster than that was copied, all the time")
        return self._no_end()

    def _refuse_failed(self) -> None:
        """Looks again: whoever is told that the machine keeps its disk may throw the target away."""
        sleep(LOOK_S)
        if self.job.look(self.deadline).stage is Stage.NONE:
            raise self._not_complete("QEMU gave it up when the machine was to be pivoted to it")

    def _no_end(self) -> LibvirtTimeout:
        return LibvirtTimeout(f"libvirt was told to pivot to {self.job.target.path}, and has not yet", **self.job.facts)

    def _not_complete(self, why: str) -> BlockJobFailed:
        return BlockJobFailed(f"{self.job.name} is not complete: {why}", **self.job.facts)

    def _machine(self) -> Machine:
        return live_machine(self.job.access, self.job.disk.domain, self.deadline)

    def _configure(self) -> None:
        """Every disk of the configuration that leads to where the disk was."""
        if self.job.disk.path == self.job.target.path:
            return
        before = SourcePaths([self.job.disk.path])
        configured = self._machine().config_disk(before)
        if configured is None:
            return
        element = mirror_xml.replaced(configured, self.job.target)
        log.info("configuration moved", **self.job.facts)
        self.job.access.call(
            self.job.disk.domain.uuid,
            lambda vm: vm.updateDeviceFlags(element, libvirt.VIR_DOMAIN_AFFECT_CONFIG),
            self.deadline,
        )

    def _read_back(self) -> DiskInDomain:
        disk, target = self.job.disk, self.job.target
        machine = self._machine()
        moved = SourcePaths([target.path])
        configured = machine.config_disk(moved)
        right = _is(machine.live_at(disk.target), self.job) and (configured is None or _is(configured, self.job))
        left = disk.path != target.path and machine.config_disk(SourcePaths([disk.path])) is not None
        if not right or left:
            raise LibvirtRefused(
                f"libvirt said yes, but {disk.domain.name} does not have {target.path} as {disk.target}, now and in "
                "its configuration",
                **self.job.facts,
            )
        return next(one for one in machine.disks(moved) if one.target == disk.target)


def _is(found: Element | None, job: CopyJob) -> bool:
    return (
        found is not None
        and disk_xml.source(found) == job.target.path
        and mirror_xml.image_format(found) == job.target.format
    )
