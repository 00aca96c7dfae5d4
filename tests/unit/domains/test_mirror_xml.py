# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What libvirt is told of a copy, and what is read of one. Samples are of libvirt 9.0."""

from xml.etree.ElementTree import Element, fromstring

import pytest

from storpool_agent.domains import disk_xml, mirror_xml
from storpool_agent.domains.model import MirrorTarget

DEVICE = MirrorTarget("/dev/storpool-byid/a.b.c", "raw", device=True)
FILE = MirrorTarget("/mnt/x'/><evil a='", "qcow2", device=False)
CONFIGURED = """
<disk type='block' device='disk'>
  <driver name='qemu' type='raw' cache='none' io='native' discard='unmap' iothread='1'/>
  <source dev='/dev/storpool/v'/>
  <backingStore type='file'><format type='raw'/><source file='/old'/></backingStore>
  <target dev='vdb' bus='virtio'/>
  <iotune><total_iops_sec>7</total_iops_sec></iotune>
  <serial>s-1</serial>
  <wwn>5000c50015ea71ad</wwn>
  <alias name='ua-1'/>
  <boot order='1'/>
  <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
</disk>
"""


def parsed(text: str) -> Element:
    return fromstring(text)  # noqa: S314


def children(disk: Element, *but: str) -> dict[str, tuple[dict[str, str], str]]:
    return {child.tag: (dict(child.attrib), (child.text or "").strip()) for child in disk if child.tag not in but}


@pytest.mark.parametrize(("target", "kind", "named"), [(DEVICE, "block", "dev"), (FILE, "file", "file")])
def test_a_destination_is_said_in_full_and_has_nothing_below_it(target: MirrorTarget, kind: str, named: str) -> None:
    disk = parsed(mirror_xml.destination(target))
    assert disk.attrib == {"type": kind, "device": "disk"}
    assert children(disk) == {
        "driver": ({"name": "qemu", "type": target.format}, ""),
        "source": ({named: target.path}, ""),
        "backingStore": ({}, ""),
    }


@pytest.mark.parametrize("target", [DEVICE, FILE])
def test_a_configured_disk_changes_in_source_and_format_alone(target: MirrorTarget) -> None:
    before = parsed(CONFIGURED)
    after = parsed(mirror_xml.replaced(before, target))
    changed = ("driver", "source", "backingStore")
    assert children(after, *changed) == children(before, *changed)
    assert disk_xml.source(after) == target.path
    assert mirror_xml.image_format(after) == target.format
    assert {"cache": "none", "io": "native", "discard": "unmap", "iothread": "1"}.items() <= children(after)["driver"][
        0
    ].items()
    assert len(after.findall("source")) == len(after.findall("backingStore")) == 1
    assert disk_xml.source(before) == "/dev/storpool/v"


def test_a_disk_without_a_driver_is_given_one() -> None:
    after = parsed(mirror_xml.replaced(parsed("<disk type='block'><target dev='vda'/></disk>"), FILE))
    assert (after.get("type"), mirror_xml.image_format(after)) == ("file", "qcow2")


@pytest.mark.parametrize(
    ("mirror", "ours", "ready", "settling", "other"),
    [
        ("<mirror job='copy'><source dev='/to'/></mirror>", True, False, False, False),
        ("<mirror job='copy' ready='yes'><source file='/to'/></mirror>", True, True, False, False),
        ("<mirror job='copy' ready='pivot'><source dev='/to'/></mirror>", True, False, True, False),
        ("<mirror job='copy' ready='abort'><source dev='/to'/></mirror>", True, False, True, False),
        ("<mirror type='block' job=''/>", False, False, True, False),
        ("<mirror job='copy'><source dev='/elsewhere'/></mirror>", False, False, False, False),
        ("<mirror job='active-commit'><source dev='/to'/></mirror>", True, False, False, True),
        ("", False, False, False, False),
    ],
    ids=["copying", "ready", "pivoting", "aborting", "taken apart", "elsewhere", "a commit", "none"],
)
def test_a_mirror_is_read(mirror: str, *, ours: bool, ready: bool, settling: bool, other: bool) -> None:
    disk = parsed(f"<disk>{mirror}</disk>")
    assert mirror_xml.is_mirrored_to(disk, "/to") is ours
    assert mirror_xml.is_ready(disk) is ready
    assert mirror_xml.is_settling(disk) is settling
    assert mirror_xml.is_other_job(disk) is other
