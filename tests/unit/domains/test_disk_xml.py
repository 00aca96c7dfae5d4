# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A disk's XML says what it was given to say, whatever that is."""

from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains_contract import disk
from storpool_agent.domains import disk_xml
from storpool_agent.domains.disk_xml import SourcePaths
from storpool_commands.disks import IoTune

# All that XML 1.0 can carry in an attribute and gives back unchanged.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1)


def parsed(text: str) -> Element:
    return fromstring(text)  # noqa: S314 - our own


@given(path=TEXT, serial=TEXT, alias=TEXT)
def test_no_value_can_leave_its_place(path: str, serial: str, alias: str) -> None:
    hostile = replace(disk(path, alias), serial=serial)
    element = parsed(disk_xml.element(hostile, "vdb"))
    assert [child.tag for child in element] == ["driver", "source", "target", "serial", "alias"]
    assert [disk_xml.source(element), disk_xml.serial(element), disk_xml.alias(element)] == [path, serial, alias]


def test_a_plain_disk_is_raw_on_a_block_device_and_never_shared() -> None:
    element = parsed(disk_xml.element(disk("/dev/storpool/v"), "vdb"))
    assert element.attrib == {"type": "block", "device": "disk"}
    driver = element.find("driver")
    assert driver is not None
    assert driver.attrib == {"name": "qemu", "type": "raw", "cache": "none", "discard": "unmap", "io": "native"}
    assert [disk_xml.target(element), disk_xml.bus(element), disk_xml.mode(element)] == ["vdb", "virtio", "rw"]
    assert element.find("shareable") is None


def test_an_encrypted_disk_names_its_secret_and_none_has_one_that_was_not_given() -> None:
    element = parsed(disk_xml.element(replace(disk("/dev/storpool/v"), secret="6d1f4d5c"), "vdb"))
    [encryption] = element.iterfind("source/encryption")
    assert (encryption.get("format"), disk_xml.secret(element)) == ("luks", "6d1f4d5c")
    assert [(one.get("type"), one.get("uuid")) for one in encryption] == [("passphrase", "6d1f4d5c")]
    assert disk_xml.secret(parsed(disk_xml.element(disk("/dev/storpool/v"), "vdb"))) is None


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param(
            '<disk><encryption format="luks"><secret uuid="u"/></encryption></disk>', "u", id="beside the source"
        ),
        pytest.param(
            '<disk><source><encryption format="luks"><secret usage="x"/></encryption></source></disk>',
            "x",
            id="by its usage",
        ),
    ],
)
def test_whoever_wrote_it_an_encrypted_disk_is_known(text: str, secret: str) -> None:
    assert disk_xml.secret(parsed(text)) == secret


def test_every_wish_has_its_place() -> None:
    wished = replace(
        disk("/dev/storpool/v"), bus="scsi", mode="ro", iothread=3, iotune=IoTune(total_iops_sec=0, read_bytes_sec=7)
    )
    element = parsed(disk_xml.element(wished, "sdb", (1, 5)))
    assert disk_xml.mode(element) == "ro"
    assert disk_xml.address(element) == "drive:1:0:0:5"
    assert element.find("driver[@iothread='3']") is not None
    assert [(limit.tag, limit.text) for limit in element.iterfind("iotune/*")] == [
        ("read_bytes_sec", "7"),
        ("total_iops_sec", "0"),
    ]


@pytest.mark.parametrize(
    ("attributes", "address"),
    [
        pytest.param("type='pci' domain='0x0' bus='0x05' slot='0x1f' function='0x3'", "pci:0000:05:1f.3", id="pci"),
        pytest.param("type='drive' controller='0' bus='0' target='1' unit='2'", "drive:0:0:1:2", id="scsi"),
        pytest.param("type='ccw' cssid='0xfe' ssid='0x0' devno='0x0001'", "ccw:0xfe:0x0:0x0001", id="mainframe"),
    ],
)
def test_an_address_is_one_word(attributes: str, address: str) -> None:
    assert disk_xml.address(parsed(f"<disk><address {attributes}/></disk>")) == address


def test_a_disk_is_known_by_every_path_that_leads_to_its_device(tmp_path: Path) -> None:
    node, by_name, by_id = tmp_path / "sp-1", tmp_path / "volume", tmp_path / "global-id"
    node.touch()
    by_name.symlink_to(node)
    by_id.symlink_to(node)
    paths = SourcePaths([str(by_name)])
    for path in (node, by_name, by_id):
        assert paths.lead_to(parsed(disk_xml.element(disk(str(path)), "vdb")))
    assert not paths.lead_to(parsed(disk_xml.element(disk(str(tmp_path / "sp-2")), "vdb")))


def test_a_file_is_known_by_its_own_path_only(tmp_path: Path) -> None:
    image, link = tmp_path / "image", tmp_path / "link"
    image.touch()
    link.symlink_to(image)
    paths = SourcePaths([str(image)])
    assert paths.lead_to(parsed(f"<disk type='file'><source file='{image}'/></disk>"))
    assert not paths.lead_to(parsed(f"<disk type='file'><source file='{link}'/></disk>"))


def test_a_drive_without_a_medium_is_no_disk_of_ours() -> None:
    assert not SourcePaths([""]).lead_to(parsed("<disk type='file' device='cdrom'><target dev='sda'/></disk>"))
    assert not SourcePaths([""]).lead_to(parsed("<disk type='network'><source protocol='rbd'/></disk>"))
