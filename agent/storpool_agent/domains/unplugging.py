# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Taking a disk out of a machine.

Out of the configuration first, so that a machine that starts anew meanwhile does not have it; then the guest is
asked to let go, again every few seconds, since one that is still booting does not hear it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from xml.etree.ElementTree import Element, tostring

import libvirt
import structlog

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml, machine
from storpool_agent.domains.calls import DomainCalls
from storpool_agent.domains.disk_xml import SourcePaths
from storpool_agent.domains.link import Link
from storpool_agent.domains.machine import Machine
from storpool_agent.domains.model import DiskInDomain, Domain
from storpool_agent.domains.news import Newsroom, Waiter
from storpool_agent.domains.refusals import asked_already, no_such_device, translated
from storpool_agent.errors import (
    LibvirtRefused,
    LibvirtTimeout,
    LibvirtUnavailable,
    UnplugPending,
    UnplugRejected,
    VmBusy,
    VmNotFound,
    VmNotRunning,
)

ASK_AGAIN_S = 5.0  # QEMU holds a request of PCI Express for 5 s; a second one within them would cancel it
LOOK_AGAIN_S = 1.5  # events that came while libvirtd was down never come
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Unplugging:
    """One disk of one machine. Used once, outside the machine's turn: it waits for the guest without it."""

    link: Link
    calls: DomainCalls
    newsroom: Newsroom
    stopping: Event
    domain: Domain
    disk: DiskInDomain
    deadline: Deadline

    def run(self, wait_guest_s: float) -> None:
        paths = SourcePaths([self.disk.path])
        with self.calls.turn(self.domain.uuid, self.deadline):
            live = self._out_of_configuration(paths)
        if live is None:
            return
        alias = disk_xml.alias(live)
        if alias is None:
            raise LibvirtRefused(f"libvirt gives {self.disk.target} no alias", vm=self.domain.uuid)
        with self.newsroom.expect(self.domain.uuid, alias) as waiter:
            self._out_of_the_guest(paths, waiter, self.deadline.within(wait_guest_s))

    def _out_of_configuration(self, paths: SourcePaths) -> Element | None:
        """The disk in the running machine, which is left to do."""
        found = self._read()
        if found is None:
            return None
        live = found.live_disk(paths)
        if live is not None and disk_xml.has_block_job(live):
            raise VmBusy(f"{self.disk.target} of {self.domain.name} is being copied", vm=self.domain.uuid)
        configured = found.config_disk(paths)
        if configured is not None:
            self._unconfigure(configured)
            found = self._read()
            if found is not None and found.config_disk(paths) is not None:
                raise LibvirtRefused(
                    f"libvirt said yes, but {self.domain.name} is still configured to have {self.disk.path}",
                    vm=self.domain.uuid,
                )
        return live

    def _unconfigure(self, configured: Element) -> None:
        element = tostring(configured, encoding="unicode")
        self._call(lambda vm: vm.detachDeviceFlags(element, libvirt.VIR_DOMAIN_AFFECT_CONFIG))

    def _out_of_the_guest(self, paths: SourcePaths, waiter: Waiter, patience: Deadline) -> None:
        while True:
            self._ask(waiter.alias)
            ask_again = patience.within(ASK_AGAIN_S)
            while not self._is_gone(paths):
                self._give_up_if_due(waiter, patience)
                if ask_again.passed:
                    break
                waiter.wait(ask_again.within(LOOK_AGAIN_S).remaining_s)
            else:
                return

    def _ask(self, alias: str) -> None:
        """Ask the guest to let go. What becomes of it is seen in the XML."""
        with self.calls.turn(self.domain.uuid, self.deadline):
            try:
                self._call(lambda vm: vm.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE))
            except (LibvirtTimeout, LibvirtUnavailable, VmNotFound, VmNotRunning) as error:
                log.info("unplug call lost", vm=self.domain.uuid, alias=alias, reason=str(error))

    def _call(self, call: Callable[[libvirt.virDomain], object]) -> None:
        try:
            self.calls.make(self.domain.uuid, call, self.deadline)
        except libvirt.libvirtError as error:
            if no_such_device(error) or asked_already(error):
                log.debug("unplug call answered", vm=self.domain.uuid, reason=str(error))
                return
            raise translated(error) from error

    def _is_gone(self, paths: SourcePaths) -> bool:
        """A libvirtd that is being restarted is no answer; the next look is."""
        try:
            found = self._read()
        except LibvirtUnavailable:
            return False
        return found is None or found.live_disk(paths) is None

    def _give_up_if_due(self, waiter: Waiter, patience: Deadline) -> None:
        facts = {"vm": self.domain.uuid, "target": self.disk.target, "alias": waiter.alias}
        if waiter.refused:
            raise UnplugRejected(f"the guest of {self.domain.name} refuses to let {self.disk.target} go", **facts)
        if patience.passed or self.stopping.is_set():
            raise UnplugPending(f"the guest of {self.domain.name} has not let {self.disk.target} go yet", **facts)

    def _read(self) -> Machine | None:
        return self.link.ask(lambda connection: machine.read(connection, self.domain.uuid), self.deadline)
