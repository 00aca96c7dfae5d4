# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A cluster without devices, asked without a socket."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storpool_devcluster import cluster as clusters
from storpool_devcluster.api import Api
from storpool_devcluster.cluster import Cluster, Options
from storpool_devcluster.faults import Faults
from storpool_devcluster.request_log import RequestLog
from storpool_devcluster.server import Request

TOKEN = "unit-token"


class Failed(Exception):
    """The call was answered with an error."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{error['name']}: {error['descr']}")
        self.status = status
        self.name = error["name"]


class Caller:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.faults = Faults()
        self.requests = RequestLog()
        self.api = Api(cluster, TOKEN, self.faults, self.requests)

    def ask(self, method: str, path: str, body: Any = None, *, token: str = TOKEN) -> tuple[int, Any]:
        content = b"" if body is None else json.dumps(body).encode()
        request = Request(method, f"/ctrl/1.0/{path}", {"authorization": f"Storpool v1:{token}"}, content)
        reply, _ = self.api.answer(request)
        return reply.status, json.loads(reply.body)

    def get(self, path: str) -> Any:
        return self._data("GET", path, None)

    def post(self, path: str, body: Any = None) -> Any:
        return self._data("POST", path, body)

    def create(self, name: str = "", **members: Any) -> str:
        return str(self.post("VolumeCreate", {"name": name, "size": 1 << 20, **members})["globalId"])

    def snapshot(self, volume: str, **members: Any) -> str:
        return str(self.post(f"VolumeSnapshot/{volume}", members)["snapshotGlobalId"])

    def attach(self, volume: str, client: int = 1) -> None:
        self.post("VolumesReassign", [{"volume": volume, "rw": [client]}])

    def snapshot_names(self) -> list[str]:
        return [snapshot["name"] for snapshot in self.get("SnapshotsList")]

    def volume_names(self) -> list[str]:
        return [volume["name"] for volume in self.get("VolumesList")]

    def _data(self, method: str, path: str, body: Any) -> Any:
        status, answer = self.ask(method, path, body)
        if "error" in answer:
            raise Failed(status, answer["error"])
        assert status == 200
        return answer["data"]


@pytest.fixture
def make_caller(tmp_path: Path) -> Iterator[Callable[..., Caller]]:
    """Starts a cluster over the same state directory each time; the one before is stopped first."""
    running: list[Cluster] = []

    def make(**options: Any) -> Caller:
        while running:
            running.pop().stop()
        clients: dict[int, Path | None] = {1: None, 2: None, 3: None}
        running.append(clusters.start(Options(tmp_path / "state", clients, devices="none", **options)))
        return Caller(running[0])

    yield make
    for cluster in running:
        cluster.stop()


@pytest.fixture
def storpool(make_caller: Callable[..., Caller]) -> Caller:
    return make_caller()
