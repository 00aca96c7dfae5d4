# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""QEMU opens volumes the way hosts name them: a link to a node, in /dev or in another device root."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest import Disk, Guest, disk_xml, pattern_checksum

pytestmark = pytest.mark.long


@pytest.fixture(params=["/dev", "another directory"])
def device_root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    parent = "/dev" if request.param == "/dev" else tmp_path
    with tempfile.TemporaryDirectory(prefix="spagent-", dir=parent) as root:
        yield Path(root)


@pytest.fixture
def link(device_root: Path, device: Path) -> Path:
    """As StorPool's udev rules make them: storpool-byid/<id> -> sp-0, a node of its own."""
    node = device_root / "sp-0"
    os.mknod(node, stat.S_IFBLK | 0o600, device.stat().st_rdev)
    link = device_root / "storpool-byid" / "a.b.c"
    link.parent.mkdir()
    link.symlink_to(node)
    return link


def test_a_link_in_a_device_root_is_plugged_in_and_named_as_given(link: Path) -> None:
    disk = Disk(link, "vda", serial="linked")
    with Guest() as guest:
        guest.domain.attachDevice(disk_xml(disk))
        guest.wait_for_disk("linked")
        assert guest.disk_sources() == {"vda": link}
        guest.write("vda", 0, 1, "seed")
        assert guest.checksum("vda", 0, 1) == pattern_checksum(0, 1, "seed")
        guest.domain.detachDevice(disk_xml(disk))
        guest.wait_until_gone("linked")


def test_a_guest_starts_from_a_link_in_a_device_root(link: Path) -> None:
    with Guest([Disk(link, "vda")], root="vda") as guest:
        assert guest.boots() == 1
