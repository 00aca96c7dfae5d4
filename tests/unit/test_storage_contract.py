# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The storage contract, on the fakes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from contract.storage import Storage, StorageContract
from fakes import FakeDevices, FakeStorPool
from storpool_agent.storpool.model import Volume
from storpool_commands.disks import Holder


@pytest.fixture
def storage() -> Storage:
    storpool = FakeStorPool()

    @contextmanager
    def opened(global_id: str) -> Iterator[None]:
        storpool.openers[global_id] = [Holder(kind="process", name="dd", pid=4711)]
        yield
        del storpool.openers[global_id]

    def snapshot(volume: Volume) -> Volume:
        return storpool.add(volume.size_bytes, snapshot=True)

    def attach_elsewhere(volume: Volume) -> int:
        storpool.attach_elsewhere(volume, client=2)
        return 2

    return Storage(storpool, FakeDevices(storpool), opened, snapshot, attach_elsewhere)


class TestFakes(StorageContract):
    pass
