# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Volumes as real block devices: what a host sees."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster_process import DevclusterProcess, running_devcluster

pytestmark = pytest.mark.services


@pytest.fixture
def storpool() -> Iterator[DevclusterProcess]:
    with running_devcluster() as process:
        yield process


def device(storpool: DevclusterProcess, gid: str, client: int = 1) -> Path:
    return storpool.state / f"dev{client}" / "storpool-byid" / gid


def size_of(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def test_an_attached_volume_is_a_block_device_of_its_size(storpool: DevclusterProcess) -> None:
    gid = storpool.create(size=5 << 20, name="disk")
    storpool.attach(gid)
    assert device(storpool, gid).is_block_device()
    assert size_of(device(storpool, gid)) == 5 << 20
    by_name = storpool.state / "dev1" / "storpool" / "disk"
    assert by_name.readlink() == device(storpool, gid).readlink() == storpool.state / "dev1" / "sp-0"


def test_a_detached_volume_leaves_neither_link_nor_node(storpool: DevclusterProcess) -> None:
    gid = storpool.create()
    storpool.attach(gid)
    storpool.detach(gid)
    assert [path for path in (storpool.state / "dev1").rglob("*") if not path.is_dir()] == []
    assert storpool.call("GET", "AttachmentsList") == []


def test_state_and_devices_are_back_after_a_kill(storpool: DevclusterProcess) -> None:
    gid = storpool.create(name="survivor")
    storpool.attach(gid)
    storpool.kill()
    storpool.restart()
    assert [item["globalId"] for item in storpool.call("GET", "AttachmentsList")] == [gid]
    assert size_of(device(storpool, gid)) == 1 << 20
