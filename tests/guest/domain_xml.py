# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The guest's libvirt domain: the smallest machine that can hot-plug disks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from guest.images import BootImages

AGENT_PORT = "org.qemu.guest_agent.0"  # the name by which libvirt knows the agent's channel
CONSOLE_PORT = "console"  # the name that `init` looks for
# Without the self-tests, calibrations and mitigations an emulated boot is a second shorter.
QUICK_BOOT = "quiet panic=-1 tsc=reliable no_timer_check mitigations=off cryptomgr.notests"
KERNEL_ARGUMENTS = f"console=ttyS0 {QUICK_BOOT}"


@dataclass(frozen=True)
class Disk:
    """A block device, or a raw file, of the host as a disk of the guest."""

    source: Path
    target: str
    bus: Literal["virtio", "scsi"] = "virtio"
    serial: str | None = None
    readonly: bool = False
    in_file: bool = False


@dataclass(frozen=True)
class Boot:
    """What is started, and where its console and its output are found."""

    source: BootImages | str
    """A kernel that QEMU loads, or the target of a disk that the BIOS boots from."""
    arguments: str
    console: Path
    output: Path
    agent: bool = False


@dataclass(frozen=True)
class Identity:
    name: str
    uuid: str
    directory: Path  # written into the domain's description: it tells which test run the domain belongs to


@dataclass(frozen=True)
class Hardware:
    memory_mib: int = 160
    spare_ports: int = 4  # each takes one hot-plugged virtio disk
    scsi: bool = False


SMALL = Hardware()


def domain_xml(identity: Identity, hardware: Hardware, disks: Sequence[Disk], boot: Boot | None = None) -> str:
    """Of type qemu: software emulation works on every host. Without `boot` the machine stays in its BIOS."""
    domain = ET.Element("domain", type="qemu")
    _text(domain, "name", identity.name)
    _text(domain, "uuid", identity.uuid)
    _text(domain, "description", str(identity.directory))
    _text(domain, "memory", str(hardware.memory_mib), unit="MiB")
    _text(domain, "vcpu", "1")
    firmware = ET.SubElement(domain, "os")
    _text(firmware, "type", "hvm", arch="x86_64", machine="q35")
    if boot and isinstance(boot.source, BootImages):
        _text(firmware, "kernel", str(boot.source.kernel))
        _text(firmware, "initrd", str(boot.source.initramfs))
        _text(firmware, "cmdline", f"{KERNEL_ARGUMENTS} {boot.arguments}".strip())
    ET.SubElement(ET.SubElement(domain, "features"), "acpi")
    devices = ET.SubElement(domain, "devices")
    _add_controllers(devices, hardware, disks)
    devices.extend([_disk(disk, boots=boot is not None and boot.source == disk.target) for disk in disks])
    if boot:
        _add_console(devices, boot)
    ET.SubElement(devices, "memballoon", model="none")
    return ET.tostring(domain, encoding="unicode")


def disk_xml(disk: Disk) -> str:
    """The device to give to attachDevice and detachDevice."""
    return ET.tostring(_disk(disk), encoding="unicode")


def _add_controllers(devices: ET.Element, hardware: Hardware, disks: Sequence[Disk]) -> None:
    ET.SubElement(devices, "controller", type="usb", model="none")
    ET.SubElement(devices, "controller", type="pci", model="pcie-root")
    on_ports = sum(disk.bus == "virtio" for disk in disks) + 1 + hardware.scsi  # 1: the console's controller
    for _ in range(on_ports + hardware.spare_ports):
        ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    if hardware.scsi:
        ET.SubElement(devices, "controller", type="scsi", model="virtio-scsi")


def _disk(disk: Disk, *, boots: bool = False) -> ET.Element:
    element = ET.Element("disk", type="file" if disk.in_file else "block", device="disk")
    ET.SubElement(element, "driver", name="qemu", type="raw", cache="none", io="native")
    ET.SubElement(element, "source", {"file" if disk.in_file else "dev": str(disk.source)})
    ET.SubElement(element, "target", dev=disk.target, bus=disk.bus)
    if boots:
        ET.SubElement(element, "boot", order="1")
    if disk.serial:
        _text(element, "serial", disk.serial)
    if disk.readonly:
        ET.SubElement(element, "readonly")
    return element


def _add_console(devices: ET.Element, boot: Boot) -> None:
    output = ET.SubElement(devices, "serial", type="file")
    ET.SubElement(output, "source", path=str(boot.output))
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "source", mode="bind", path=str(boot.console))
    ET.SubElement(channel, "target", type="virtio", name=CONSOLE_PORT)
    if boot.agent:
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name=AGENT_PORT)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
