# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A copy of a running disk in libvirt's XML: the <mirror> of a disk, and the <disk> that it is to become."""

from copy import deepcopy
from enum import Enum
from xml.etree.ElementTree import Element, SubElement, tostring

from storpool_agent.domains import disk_xml
from storpool_agent.domains.model import MirrorTarget

_COPY = ("copy", "")  # libvirt 9.0 writes an empty name, and no source, while it takes a job apart


class Stage(Enum):
    """How far the copy of a disk to its target is."""

    NONE = "the disk as it was"
    COPYING = "copying"
    READY = "target and disk get the same writes"
    SETTLING = "being ended, or being pivoted"
    MOVED = "the target is the disk"


def destination(target: MirrorTarget) -> str:
    """What a disk is to be copied to. Cache, I/O mode and discard are those of the disk: libvirt sees to that."""
    root = Element("disk", _kind(target), device="disk")
    SubElement(root, "driver", name="qemu", type=target.format)
    SubElement(root, "source", _source(target))
    SubElement(root, "backingStore")  # there is none, and none is to be looked for in what a guest may have written
    return tostring(root, encoding="unicode")


def replaced(configured: Element, target: MirrorTarget) -> str:
    """A disk of a configuration, with the target as its source and all else as it was."""
    disk = deepcopy(configured)
    disk.attrib.update(_kind(target))
    driver = disk.find("driver")
    if driver is None:
        driver = SubElement(disk, "driver", name="qemu")
    driver.set("type", target.format)
    for old in disk.findall("source") + disk.findall("backingStore"):
        disk.remove(old)
    SubElement(disk, "source", _source(target))
    SubElement(disk, "backingStore")
    return tostring(disk, encoding="unicode")


def is_mirrored_to(disk: Element, path: str) -> bool:
    mirror = disk.find("mirror")
    return mirror is not None and disk_xml.source(mirror) == path


def is_settling(disk: Element) -> bool:
    """Its mirror is being ended or pivoted, and need not say any more where it leads."""
    mirror = disk.find("mirror")
    return mirror is not None and (mirror.get("ready") in ("abort", "pivot") or disk_xml.source(mirror) is None)


def is_other_job(disk: Element) -> bool:
    """A commit, not a copy."""
    mirror = disk.find("mirror")
    return mirror is not None and mirror.get("job") not in _COPY


def is_ready(disk: Element) -> bool:
    mirror = disk.find("mirror")
    return mirror is not None and mirror.get("ready") == "yes"


def image_format(disk: Element) -> str | None:
    driver = disk.find("driver")
    return None if driver is None else driver.get("type")


def _kind(target: MirrorTarget) -> dict[str, str]:
    return {"type": "block" if target.device else "file"}


def _source(target: MirrorTarget) -> dict[str, str]:
    return {"dev" if target.device else "file": target.path}
