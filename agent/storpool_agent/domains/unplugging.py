# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Taking a disk out of a machine.

Out of the configuration first, so that a machine that starts anew meanwhile does not have it; then the guest is
asked to let go, again every few seconds, since one that is still booting does not hear it.
"""

from dataclasses import dataclass
from xml.etree.ElementTree import Element, tostring

import libvirt
import structlog

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml
from storpool_agent.domains.access import Access
from storpool_agent.domains.calls import Call
from storpool_agent.domains.disk_xml import SourcePaths
from storpool_agent.domains.model import DiskInDomain, Domain
from storpool_agent.domains.news import Waiter
from storpool_agent.domains.refusals import asked_already, no_such_device
from storpool_agent.errors import (
    AgentError,
    LibvirtRefused,
    LibvirtTimeout,
    LibvirtUnavailable,
    UnplugPending,
    UnplugRejected,
    VmBusy,
    VmNotFound,
    VmNotRunning,
)

ASK_AGAIN_S = 5.0  # a PCI Express slot holds a request for 5 s, in which a second one is refused or cancels it
LOOK_AGAIN_S = 1.5  # events that came while libvirtd was down never come
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Unplugging:
    """One disk of one machine. Used once. It takes the machine's turn for each call, not while the guest thinks."""

    access: Access
    domain: Domain
    disk: DiskInDomain
    deadline: Deadline

    def run(self, wait_guest_s: float) -> None:
        paths = SourcePaths([self.disk.path])
        with self.access.calls.turn(self.domain.uuid, self.deadline):
            live = self._out_of_configuration(paths)
        if live is None:
            return
        alias = disk_xml.alias(live)
        if alias is None:
            raise LibvirtRefused(f"libvirt gives {self.disk.target} no alias", vm=self.domain.uuid)
        with self.access.newsroom.expect(self.domain.uuid, alias) as waiter:
            self._ask(alias)
            self._wait_for_the_guest(paths, waiter, self.deadline.within(wait_guest_s))

    def _out_of_configuration(self, paths: SourcePaths) -> Element | None:
        """The disk in the running machine, which is left to do."""
        found = self.access.read(self.domain.uuid, self.deadline)
        if found is None:
            return None
        live = found.live_disk(paths)
        if live is not None and disk_xml.has_block_job(live):
            raise VmBusy(f"{self.disk.target} of {self.domain.name} is being copied", vm=self.domain.uuid)
        configured = found.config_disk(paths)
        if configured is not None:
            self._unconfigure(configured, paths)
        return live

    def _unconfigure(self, configured: Element, paths: SourcePaths) -> None:
        element = tostring(configured, encoding="unicode")
        self._call(lambda vm: vm.detachDeviceFlags(element, libvirt.VIR_DOMAIN_AFFECT_CONFIG))
        left = self.access.read(self.domain.uuid, self.deadline)
        if left is not None and left.config_disk(paths) is not None:
            raise LibvirtRefused(
                f"libvirt said yes, but {self.domain.name} is still configured to have {self.disk.path}",
                vm=self.domain.uuid,
            )

    def _ask(self, alias: str) -> None:
        """Ask the guest to let go. What becomes of it is seen in the XML."""
        with self.access.calls.turn(self.domain.uuid, self.deadline):
            try:
                self._call(lambda vm: vm.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE))
            except (VmNotFound, VmNotRunning):
                log.debug("vm stopped during unplug", vm=self.domain.uuid, alias=alias)

    def _ask_again(self, alias: str) -> None:
        """The request that was made stands, whatever becomes of this one."""
        try:
            self._ask(alias)
        except AgentError as error:
            log.info("unplug not repeated", vm=self.domain.uuid, alias=alias, reason=str(error))

    def _call(self, call: Call[int]) -> None:
        try:
            self.access.call(self.domain.uuid, call, self.deadline)
        except AgentError as refusal:
            cause = refusal.__cause__
            if not isinstance(cause, libvirt.libvirtError) or not (no_such_device(cause) or asked_already(cause)):
                raise
            log.debug("unplug call answered", vm=self.domain.uuid, reason=str(refusal))

    def _wait_for_the_guest(self, paths: SourcePaths, waiter: Waiter, patience: Deadline) -> None:
        ask_again = patience.within(ASK_AGAIN_S)
        while not self._is_gone(paths):
            self._give_up_if_due(waiter, patience)
            waiter.wait(ask_again.within(LOOK_AGAIN_S).remaining_s)
            if ask_again.passed and not patience.passed:
                self._ask_again(waiter.about)
                ask_again = patience.within(ASK_AGAIN_S)

    def _is_gone(self, paths: SourcePaths) -> bool:
        """A libvirtd that is being restarted gives no answer; the next look will."""
        try:
            found = self.access.read(self.domain.uuid, self.deadline)
        except (LibvirtUnavailable, LibvirtTimeout):
            return False
        return found is None or found.live_disk(paths) is None

    def _give_up_if_due(self, waiter: Waiter, patience: Deadline) -> None:
        target, name = self.disk.target, self.domain.name
        facts = {"vm": self.domain.uuid, "target": target, "alias": waiter.about}
        if waiter.refused:
            raise UnplugRejected(f"the guest of {name} refuses to let {target} go", **facts)
        if patience.passed or self.access.stopping.is_set():
            raise UnplugPending(f"the guest of {name} has not let {target} go yet", **facts)
