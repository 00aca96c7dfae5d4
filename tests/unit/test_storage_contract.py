# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The storage contract, on the fakes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from contract.snapshots import SnapshotContract
from contract.storage import Storage, StorageContract
from fakes import FakeDevices, FakeStorPool
from storpool_agent.storpool.model import Volume
from storpool_commands.disks import Holder


@pytest.fixture
def storage() -> Storage:
    storpool = FakeStorPool(clusters={"d.n", "d.m"})

    @contextmanager
    def opened(global_id: str) -> Iterator[None]:
        storpool.openers[global_id] = [Holder(kind="process", name="dd", pid=4711)]
        yield
        del storpool.openers[global_id]

    def attach_elsewhere(volume: Volume) -> int:
        storpool.attach_elsewhere(volume, client=2)
        return 2

    def export(snapshot: Volume) -> None:
        storpool.exported.add(snapshot.global_id)

    def write(volume: Volume, text: str) -> None:
        storpool.contents[volume.global_id] = text

    def read(volume: Volume) -> str:
        return storpool.contents.get(volume.global_id, "")

    return Storage(storpool, FakeDevices(storpool), opened, attach_elsewhere, export, write, read)


class TestFakes(StorageContract, SnapshotContract):
    pass
