# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Several clusters behind one API."""

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Caller, Failed

SIZE = 1 << 20


@pytest.fixture
def two(make_caller: Callable[..., Caller]) -> Caller:
    return make_caller(remote_clusters={"d.m": "far"})


def created(caller: Caller, prefix: str, **members: Any) -> str:
    return str(caller.post(f"{prefix}VolumeCreate", {"size": SIZE, **members})["globalId"])


def listed(caller: Caller, query: str) -> list[str]:
    return [each["globalId"] for each in caller.get(query)]


def test_a_volume_belongs_to_the_cluster_that_made_it(two: Caller) -> None:
    near, far = created(two, "MultiCluster/"), created(two, "RemoteCommand/~d.m/")
    assert (near.rpartition(".")[0], far.rpartition(".")[0]) == ("d.n", "d.m")
    assert listed(two, "VolumesList") == [near]
    assert listed(two, "RemoteCommand/far/VolumesList") == [far]
    found = {each["globalId"]: (each["clusterId"], each["clusterName"]) for each in two.get("MultiCluster/VolumesList")}
    assert found == {near: ("d.n", "dev"), far: ("d.m", "far")}


def test_all_clusters_answer_one_by_one(two: Caller) -> None:
    near, far = created(two, ""), created(two, "RemoteCommand/far/")
    answers = two.get("MultiCluster/AllClusters/VolumesList")["clusters"]
    assert [[each["globalId"] for each in answer["response"]["data"]] for answer in answers] == [[near], [far]]


def test_snapshots_and_clones_stay_with_their_origin(two: Caller) -> None:
    far = created(two, "RemoteCommand/~d.m/")
    snapshot = two.snapshot(f"~{far}")
    assert snapshot.startswith("d.m.")
    assert created(two, "MultiCluster/", parent=f"~{snapshot}").startswith("d.m.")
    with pytest.raises(Failed, match="objectDoesNotExist"):
        created(two, "", parent=f"~{snapshot}")
    assert listed(two, "SnapshotsList") == []
    assert listed(two, "RemoteCommand/~d.m/SnapshotsList") == [snapshot]


def test_a_change_names_the_cluster_of_its_object(two: Caller) -> None:
    far = created(two, "RemoteCommand/~d.m/")
    assert two.ask("POST", f"MultiCluster/VolumeUpdate/~{far}", {})[1]["clusterId"] == "d.m"
    assert two.ask("POST", "MultiCluster/VolumeCreate", {"size": SIZE})[1]["clusterId"] == "d.n"


def test_a_volume_of_another_cluster_can_be_attached(two: Caller) -> None:
    far = created(two, "RemoteCommand/~d.m/")
    two.attach(f"~{far}")
    (attachment,) = two.get("MultiCluster/AttachmentsList")
    assert (attachment["globalId"], attachment["clusterId"], attachment["cluster"]) == (far, "d.m", "far")


def test_a_cluster_that_is_not_there_is_said(two: Caller) -> None:
    with pytest.raises(Failed, match=r"Cluster '~d\.q' does not exist"):
        created(two, "RemoteCommand/~d.q/")
