# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a machine is made of, and whether this host can run one like that."""

from xml.etree.ElementTree import Element, fromstring, tostring

import libvirt

from storpool_agent.deadline import Deadline
from storpool_agent.domains import disk_xml, machine
from storpool_agent.domains.access import Access
from storpool_agent.domains.model import MachineDisk, Platform, Portrait
from storpool_agent.domains.refusals import text_of
from storpool_agent.errors import VmNotFound
from storpool_agent.migration_errors import CpuIncompatible

_UNITS = {"b": 1, "bytes": 1, "KiB": 1 << 10, "k": 1 << 10, "MiB": 1 << 20, "M": 1 << 20, "GiB": 1 << 30, "G": 1 << 30}
_BAD_CPU = (libvirt.VIR_ERR_CPU_INCOMPATIBLE, libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_ERR_INVALID_ARG)


def of(access: Access, vm: str, deadline: Deadline) -> Portrait:
    """Of the machine as it would set out for another host: what `migratable` says of it. Raises VmNotFound."""
    found = access.link.ask(lambda connection: machine.find(connection, vm), deadline)
    if found is None:
        raise VmNotFound(f"this host has no machine {vm}; is it defined here, under this name or UUID?", vm=vm)

    def read(connection: libvirt.virConnect) -> tuple[str, int]:
        domain = connection.lookupByUUIDString(found.uuid)
        # Of one that is off, `migratable` says the same as without.
        return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE), domain.state()[0]

    text, state = access.link.ask(read, deadline)
    root = fromstring(text)  # noqa: S314 - libvirtd writes it
    cpu, kind = root.find("cpu"), root.find("os/type")
    return Portrait(
        domain=found,
        paused=state == libvirt.VIR_DOMAIN_PAUSED,
        cpu=None if cpu is None else _bare(cpu),
        arch="" if kind is None else kind.get("arch", ""),
        machine_type="" if kind is None else kind.get("machine", ""),
        domain_type=root.get("type", ""),
        memory_bytes=_memory(root),
        vcpus=int(root.findtext("vcpu", "1")),
        disks=tuple(_disk(one) for one in root.findall("devices/disk")),
    )


def refuse_misfit(access: Access, platform: Platform, deadline: Deadline) -> None:
    """Raises CpuIncompatible when this host's QEMU cannot give a machine this CPU."""
    cpu = platform.cpu
    if cpu is None:
        return

    def compare(connection: libvirt.virConnect) -> int:
        return connection.compareHypervisorCPU(None, platform.arch, platform.machine_type, platform.domain_type, cpu, 0)

    def refused(connection: libvirt.virConnect) -> tuple[int, str]:
        try:
            return compare(connection), ""
        except libvirt.libvirtError as error:
            if error.get_error_code() in _BAD_CPU:
                return libvirt.VIR_CPU_COMPARE_INCOMPATIBLE, text_of(error)
            raise

    verdict, why = access.link.ask(refused, deadline)
    if verdict not in (libvirt.VIR_CPU_COMPARE_IDENTICAL, libvirt.VIR_CPU_COMPARE_SUPERSET):
        raise CpuIncompatible(
            f"this host cannot give a machine that CPU{f': {why}' if why else ''}; give the machine a CPU that both "
            "hosts have (virsh hypervisor-cpu-baseline), or move it to a host like the one that it is on",
            domain_type=platform.domain_type,
            arch=platform.arch,
            machine_type=platform.machine_type,
        )


def _bare(cpu: Element) -> str:
    cpu.tail = None
    return tostring(cpu, encoding="unicode")


def _memory(root: Element) -> int:
    found = root.find("currentMemory") if root.find("memory") is None else root.find("memory")
    if found is None:
        return 0
    return int(found.text or 0) * _UNITS[found.get("unit", "KiB")]


def _disk(disk: Element) -> MachineDisk:
    driver = disk.find("driver")
    return MachineDisk(
        target=disk_xml.target(disk),
        device=disk.get("device", "disk"),
        path=disk_xml.source(disk),
        format=None if driver is None else driver.get("type"),
        mode=disk_xml.mode(disk),
        cache=None if driver is None else driver.get("cache"),
        encrypted=disk.find("encryption") is not None or disk.find("source/encryption") is not None,
        bus=disk_xml.bus(disk),
    )
