# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Ending a copy of a running machine's disk: the machine keeps the disk that it has."""

from dataclasses import dataclass
from time import sleep
from xml.etree.ElementTree import Element

import libvirt
import structlog

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml, mirror_xml
from storpool_agent.domains.access import Access
from storpool_agent.domains.calls import Call
from storpool_agent.domains.copy_job import LOOK_S
from storpool_agent.errors import (
    AgentError,
    DiskInUseByVm,
    LibvirtTimeout,
    LibvirtUnavailable,
    VmBusy,
    VmNotFound,
    VmNotRunning,
)

_NO_JOB = "does not have an active block job"
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Ending:
    """Of the copy of some disk of a machine (a UUID) to a path."""

    access: Access
    uuid: str
    path: str
    deadline: Deadline

    def run(self) -> None:
        """Returns once the XML has no such copy. A libvirtd that is being restarted is waited for."""
        while not self._is_over():
            if self.deadline.passed:
                raise VmBusy(
                    f"libvirt was told to end the copy to {self.path}, and it has not come to its end yet: does that "
                    "storage answer?",
                    vm=self.uuid,
                    path=self.path,
                )
            sleep(LOOK_S)

    def _is_over(self) -> bool:
        try:
            self._call(lambda vm: vm.isActive())  # refused while an earlier call is under way: it may begin a copy
            machine = self.access.read(self.uuid, self.deadline)
            for disk in machine.live_disks() if machine is not None else ():
                if not self._has_ended(disk):
                    return False
        except (LibvirtUnavailable, LibvirtTimeout, VmBusy):
            if self.deadline.passed:
                raise
            return False
        except (VmNotFound, VmNotRunning):
            log.debug("copy ended with its machine", vm=self.uuid)
        return True

    def _has_ended(self, disk: Element) -> bool:
        if disk_xml.source(disk) == self.path:
            raise DiskInUseByVm(
                f"the machine has been moved to {self.path}: it is its {disk_xml.target(disk)} now",
                vm=self.uuid,
                target=disk_xml.target(disk),
                path=self.path,
            )
        if mirror_xml.is_settling(disk):
            return False  # also one that may be on its way elsewhere: it no longer says where
        if not mirror_xml.is_mirrored_to(disk, self.path):
            return True
        self._abort(disk_xml.target(disk))
        return False

    def _abort(self, target: str) -> None:
        """Without waiting: a target that hangs would keep the call, and with it the machine, until it does not."""
        flags = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC
        try:
            self._call(lambda vm: vm.blockJobAbort(target, flags))
        except AgentError as refusal:
            if _NO_JOB not in str(refusal):
                raise
            log.debug("copy ended by itself", vm=self.uuid, target=target)

    def _call(self, call: Call[int]) -> None:
        with self.access.calls.turn(self.uuid, self.deadline):
            self.access.call(self.uuid, call, self.deadline)
