# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""libvirt's <disk>, written and read. Always through a tree: no value can end an attribute or an element."""

from collections.abc import Iterable
from pathlib import Path
from stat import S_ISBLK
from xml.etree.ElementTree import Element, SubElement, tostring

from storpool_agent.domains.model import Disk
from storpool_commands.disks import IoTune, Mode

DEVICES = "/dev/"
_ENCRYPTION = ("source/encryption/secret", "encryption/secret")


class SourcePaths:
    """Paths of one disk: a link by name, one by global id and the device node itself are the same."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._named = frozenset(paths)
        self._things = {thing for path in self._named if (thing := _thing(path)) is not None}

    def lead_to(self, disk: Element) -> bool:
        path = source(disk)
        if path is None or path in self._named:
            return path is not None
        # Only what is a device is looked at: a file may lie on a file system that does not answer.
        is_device = disk.get("type") == "block" or path.startswith(DEVICES)
        return bool(self._things) and is_device and _thing(path) in self._things


class SourceDirectories:
    """Whatever lies in these directories, by the path that the machine names it by."""

    def __init__(self, directories: Iterable[str]) -> None:
        self._prefixes = tuple(directory.rstrip("/") + "/" for directory in directories)

    def lead_to(self, disk: Element) -> bool:
        path = source(disk)
        return path is not None and path.startswith(self._prefixes)


def _thing(path: str) -> tuple[int, int] | None:
    """What is at the end of a path. None when nothing is, which is then nothing's equal."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return (0, found.st_rdev) if S_ISBLK(found.st_mode) else (found.st_dev, found.st_ino)


def element(disk: Disk, target: str, scsi_unit: tuple[int, int] | None = None) -> str:
    """The disk at a target; for SCSI at a controller and unit, lest libvirt add a controller of its own."""
    root = Element("disk", type="block", device="disk")
    SubElement(root, "driver", _driver(disk))
    source_element = SubElement(root, "source", dev=disk.path)
    if disk.secret is not None:
        encryption = SubElement(source_element, "encryption", format="luks")
        SubElement(encryption, "secret", type="passphrase", uuid=disk.secret)
    SubElement(root, "target", dev=target, bus=disk.bus)
    if disk.iotune is not None:
        _limit(root, disk.iotune)
    if disk.mode == "ro":
        SubElement(root, "readonly")
    SubElement(root, "serial").text = disk.serial
    SubElement(root, "alias", name=disk.alias)
    if scsi_unit is not None:
        controller, unit = scsi_unit
        SubElement(root, "address", type="drive", controller=str(controller), bus="0", target="0", unit=str(unit))
    return tostring(root, encoding="unicode")


def source(disk: Element) -> str | None:
    """The device or file, None for a network disk or an empty drive."""
    found = disk.find("source")
    return None if found is None else found.get("dev") or found.get("file")


def target(disk: Element) -> str:
    return _attribute(disk, "target", "dev") or ""


def bus(disk: Element) -> str:
    return _attribute(disk, "target", "bus") or ""


def alias(disk: Element) -> str | None:
    return _attribute(disk, "alias", "name")


def serial(disk: Element) -> str | None:
    return disk.findtext("serial")


def mode(disk: Element) -> Mode:
    return "rw" if disk.find("readonly") is None else "ro"


def secret(disk: Element) -> str | None:
    """libvirt takes the <encryption> in the <disk>, too, and leaves it where it was given."""
    found = next((one for place in _ENCRYPTION for one in disk.iterfind(place)), None)
    return None if found is None else found.get("uuid") or found.get("usage") or ""


def has_block_job(disk: Element) -> bool:
    return disk.find("mirror") is not None


def address(disk: Element) -> str | None:
    """`pci:0000:05:00.0` or `drive:0:0:1:0`; of another kind, its type and values in libvirt's order."""
    found = disk.find("address")
    if found is None:
        return None
    at = dict(found.attrib)
    kind = at.pop("type", "")
    if kind == "pci":
        domain, bus_number, slot, function = (int(at[part], 16) for part in ("domain", "bus", "slot", "function"))
        return f"pci:{domain:04x}:{bus_number:02x}:{slot:02x}.{function:x}"
    return ":".join((kind, *at.values()))


def _driver(disk: Disk) -> dict[str, str]:
    options = {"name": "qemu", "type": "raw", "cache": disk.cache, "discard": disk.discard}
    if disk.io is not None:
        options["io"] = disk.io
    if disk.iothread is not None:
        options["iothread"] = str(disk.iothread)
    return options


def _limit(root: Element, limits: IoTune) -> None:
    tune = SubElement(root, "iotune")
    for name, limit in limits.model_dump(exclude_none=True).items():
        SubElement(tune, name).text = str(limit)


def _attribute(disk: Element, child: str, name: str) -> str | None:
    found = disk.find(child)
    return None if found is None else found.get(name)
