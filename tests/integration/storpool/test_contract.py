# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The storage contract, on a development StorPool with real block devices."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.snapshots import SnapshotContract
from contract.storage import Storage, StorageContract, soon
from devcluster_process import DevclusterProcess
from storpool_agent.devices.tree import DeviceTree
from storpool_agent.storpool.cluster import Cluster
from storpool_agent.storpool.model import Volume
from storpool_commands.disks import Mode

SECTOR = 512
OPEN = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def storage(devcluster: DevclusterProcess, cluster: Cluster, device_root: Path) -> Iterator[Storage]:
    devices = DeviceTree(device_root)

    @contextmanager
    def opened(global_id: str) -> Iterator[None]:
        command = [sys.executable, "-c", OPEN, devices.link(global_id)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            yield

    def attach_elsewhere(volume: Volume) -> int:
        devcluster.attach(volume.global_id, client=2)
        return 2

    def export(snapshot: Volume) -> None:
        body = {"snapshot": str(snapshot.reference), "location": "far"}
        devcluster.call("POST", "SnapshotExport", body, prefix="")

    @contextmanager
    def device(volume: Volume, mode: Mode) -> Iterator[Path]:
        cluster.attach(volume, mode, "export", soon())
        found = devices.wait_ready(volume.global_id, volume.size_bytes, mode, soon())
        yield Path(found.link)
        cluster.detach(volume, soon())
        devices.wait_gone(volume.global_id, found, soon())

    def write(volume: Volume, text: str) -> None:
        with device(volume, "rw") as path, path.open("r+b", buffering=0) as file:
            file.write(text.encode().ljust(SECTOR, b"\0"))
            os.fsync(file)

    def read(volume: Volume) -> str:
        with device(volume, "ro") as path, path.open("rb", buffering=0) as file:
            return file.read(SECTOR).rstrip(b"\0").decode()

    devices.start()
    yield Storage(cluster, devices, opened, attach_elsewhere, export, write, read)
    devices.stop()


class TestRealParts(StorageContract, SnapshotContract):
    pass
