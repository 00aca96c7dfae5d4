# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine as libvirt describes it: the running one and the one that it will be at its next start."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast
from xml.etree.ElementTree import Element, fromstring

import libvirt

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml
from storpool_agent.domains.disk_xml import SourceDirectories, SourcePaths
from storpool_agent.domains.model import DiskInDomain, Domain
from storpool_agent.errors import LibvirtUnavailable


@dataclass(frozen=True)
class Machine:
    """Neither element is ever changed."""

    domain: Domain
    live: Element | None
    config: Element | None

    def live_disk(self, paths: SourcePaths) -> Element | None:
        return next((disk for disk in _disks(self.live) if paths.lead_to(disk)), None)

    def config_disk(self, paths: SourcePaths) -> Element | None:
        return next((disk for disk in _disks(self.config) if paths.lead_to(disk)), None)

    def live_disks(self) -> list[Element]:
        return _disks(self.live)

    def live_at(self, target: str) -> Element | None:
        return next((disk for disk in _disks(self.live) if disk_xml.target(disk) == target), None)

    def disks(self, paths: SourcePaths | SourceDirectories) -> list[DiskInDomain]:
        """One for each target; a disk that runs at another target than configured is two."""
        live = {disk_xml.target(disk): disk for disk in _disks(self.live) if paths.lead_to(disk)}
        config = {disk_xml.target(disk): disk for disk in _disks(self.config) if paths.lead_to(disk)}
        return [self._disk(target, live.get(target), config.get(target)) for target in live | config]

    def targets(self) -> set[str]:
        """Every target in use, of disks, CD-ROM and floppy drives alike."""
        return {disk_xml.target(disk) for part in (self.live, self.config) for disk in _disks(part)}

    def scsi_controllers(self) -> set[int]:
        """The controllers that both the running machine and its configuration have."""
        parts = [
            {int(at.get("index", "0")) for at in part.iterfind("devices/controller[@type='scsi']")}
            for part in (self.live, self.config)
            if part is not None
        ]
        return set[int].intersection(*parts) if parts else set()

    def scsi_units(self, controller: int) -> set[int]:
        """Units that are taken, on the only bus and target that disks are put on."""
        wanted = {"type": "drive", "controller": str(controller), "bus": "0", "target": "0"}
        return {
            int(at.get("unit", "0"))
            for part in (self.live, self.config)
            if part is not None
            for at in part.iterfind("devices/*/address")
            if wanted.items() <= at.attrib.items()
        }

    def _disk(self, target: str, live: Element | None, config: Element | None) -> DiskInDomain:
        disk = cast(Element, config if live is None else live)
        return DiskInDomain(
            domain=self.domain,
            path=disk_xml.source(disk) or "",
            target=target,
            bus=disk_xml.bus(disk),
            live=live is not None,
            config=config is not None,
            alias=disk_xml.alias(disk),
            serial=disk_xml.serial(disk),
            address=disk_xml.address(disk),
            mode=disk_xml.mode(disk),
            secret=disk_xml.secret(disk),
        )


def find(connection: libvirt.virConnect, vm: str) -> Domain | None:
    """By UUID, else by name (a name may look like a UUID)."""
    for look_up in (connection.lookupByUUIDString, connection.lookupByName):
        try:
            found = look_up(vm)
            persistent = bool(found.isPersistent())
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_INVALID_ARG):
                raise
        else:
            return Domain(found.UUIDString(), found.name(), running=found.ID() != -1, persistent=persistent)
    return None


def read(connection: libvirt.virConnect, uuid: str) -> Machine | None:
    """None when there is no such machine (any more)."""
    try:
        found = connection.lookupByUUIDString(uuid)
        return _machine(found, persistent=bool(found.isPersistent()))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def read_all(connection: libvirt.virConnect, deadline: Deadline) -> list[Machine]:
    """Every machine, running or only configured. One that goes away meanwhile is left out."""
    return list(_machines(connection, deadline))


def _machines(connection: libvirt.virConnect, deadline: Deadline) -> Iterator[Machine]:
    everything = connection.listAllDomains()
    persistent = {one.UUIDString() for one in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)}
    for one in everything:
        if deadline.passed:
            raise LibvirtUnavailable("no time was left to look at every machine of this host")
        try:
            yield _machine(one, persistent=one.UUIDString() in persistent)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise


def _machine(found: libvirt.virDomain, *, persistent: bool) -> Machine:
    # S314: libvirtd writes this XML, with every value quoted.
    # Whether it runs is what this description says (it has an id then), not what was true when it was listed.
    now = fromstring(found.XMLDesc())  # noqa: S314
    live = now if now.get("id") is not None else None
    config = now if live is None else None
    if live is not None and persistent:
        config = fromstring(found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))  # noqa: S314
    domain = Domain(
        uuid=now.findtext("uuid", ""), name=now.findtext("name", ""), running=live is not None, persistent=persistent
    )
    return Machine(domain, live, config)


def _disks(part: Element | None) -> list[Element]:
    return [] if part is None else part.findall("devices/disk")
