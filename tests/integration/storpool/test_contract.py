# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The storage contract, on a development StorPool with real block devices."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.storage import Storage, StorageContract, soon
from devcluster_process import DevclusterProcess
from storpool_agent.devices.tree import DeviceTree
from storpool_agent.storpool.cluster import Cluster
from storpool_agent.storpool.model import Volume
from storpool_commands.references import Reference

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

    def snapshot(volume: Volume) -> Volume:
        made = devcluster.call("POST", f"VolumeSnapshot/{volume.reference}", {})
        return cluster.snapshot(Reference("id", made["snapshotGlobalId"]), soon())

    def attach_elsewhere(volume: Volume) -> int:
        devcluster.attach(volume.global_id, client=2)
        return 2

    devices.start()
    yield Storage(cluster, devices, opened, snapshot, attach_elsewhere)
    devices.stop()


class TestRealParts(StorageContract):
    pass
