# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One development StorPool for each module, emptied after each test."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from pydantic import SecretStr

from devcluster_process import DevclusterProcess, running_devcluster
from storpool_agent.storpool.cluster import Cluster


@pytest.fixture(scope="module")
def device_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Client 1's; client 2 is a host elsewhere."""
    return tmp_path_factory.mktemp("dev")


@pytest.fixture(scope="module")
def running(device_root: Path) -> Iterator[DevclusterProcess]:
    options = ["--remote-cluster", "d.m=far"]
    with running_devcluster({1: device_root, 2: None}, options=options) as process:
        yield process


@pytest.fixture
def devcluster(running: DevclusterProcess) -> Iterator[DevclusterProcess]:
    yield running
    running.sim.reset()
    running.sim.client_up(1)
    for each in running.call("GET", "AttachmentsList"):
        kind = "snapshot" if each["snapshot"] else "volume"
        running.reassign({kind: f"~{each['globalId']}", "detach": [each["client"]], "force": True})
    for query in ("Volume", "Snapshot"):
        for each in running.call("GET", f"{query}sList"):
            if each.get("deleted"):
                continue
            if query == "Snapshot":
                running.call("POST", "SnapshotUnexport", {"snapshot": f"~{each['globalId']}", "all": True}, prefix="")
            running.call("POST", f"{query}Delete/~{each['globalId']}")
    running.sim.wait_for_removals()
    running.sim.reset()


@pytest.fixture
def stopping() -> Event:
    return Event()


@pytest.fixture
def cluster(devcluster: DevclusterProcess, stopping: Event) -> Cluster:
    return Cluster(devcluster.api, SecretStr(devcluster.token), 1, stopping)
