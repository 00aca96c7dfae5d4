# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Paths, token, envelopes, persistence and the rules of faults."""

from collections.abc import Callable

import pytest

from storpool_devcluster.faults import Rule

from .conftest import Caller, Failed


def test_prefixes_reach_the_same_call(storpool: Caller) -> None:
    storpool.create("x")
    plain = storpool.get("Volume/x")[0]
    for prefix in ("MultiCluster/", "RemoteCommand/dev/MultiCluster/", "RemoteCommand/~d.n/MultiCluster/"):
        assert storpool.get(f"{prefix}Volume/x") == [plain | {"clusterName": "dev", "clusterId": "d.n"}]
    with pytest.raises(Failed, match="Cluster 'far' does not exist"):
        storpool.get("RemoteCommand/far/VolumesList")


def test_all_clusters_are_one(storpool: Caller) -> None:
    assert storpool.get("MultiCluster/AllClusters/VolumesList") == {"clusters": [{"response": {"data": []}}]}


def test_a_change_in_multi_cluster_names_its_cluster(storpool: Caller) -> None:
    assert storpool.ask("POST", "MultiCluster/VolumeCreate", {"size": 512})[1]["clusterId"] == "d.n"


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        pytest.param("GET", "NoSuchCall", 404, "unknownQuery", id="unknown call"),
        pytest.param("GET", "VolumeCreate", 405, "wrongMethod", id="wrong method"),
        pytest.param("GET", "Volume", 500, "invalidParam", id="argument missing"),
        pytest.param("GET", "VolumesList/x", 500, "invalidParam", id="argument too many"),
        pytest.param("GET", "Volume/%2e%2e", 500, "invalidParam", id="a path in a reference"),
    ],
)
def test_what_makes_no_sense_is_an_error(storpool: Caller, method: str, path: str, status: int, name: str) -> None:
    answered, answer = storpool.ask(method, path)
    assert (answered, answer["error"]["name"], answer["error"]["transient"]) == (status, name, False)


def test_a_wrong_token_is_refused(storpool: Caller) -> None:
    status, answer = storpool.ask("GET", "VolumesList", token="other")
    assert (status, answer["error"]["name"]) == (401, "unauthorized")


def test_errors_can_be_answered_with_status_200(make_caller: Callable[..., Caller]) -> None:
    status, answer = make_caller(error_status=200).ask("GET", "Volume/x")
    assert (status, answer["error"]["name"]) == (200, "objectDoesNotExist")


def test_the_generation_counts_changes_and_nothing_else(storpool: Caller) -> None:
    before = storpool.ask("GET", "VolumesList")[1]["generation"]
    answer = storpool.ask("POST", "VolumeCreate", {"name": "x", "size": 512})[1]
    assert answer["generation"] == answer["data"]["generation"] == before + 1
    assert storpool.ask("POST", "VolumeCreate", {"name": "x", "size": 512})[1]["generation"] == before + 1


def test_a_restart_brings_back_everything(make_caller: Callable[..., Caller]) -> None:
    before = make_caller()
    before.create("x", tags={"a": "b"}, template="dev")
    before.snapshot("x", name="s")
    before.attach("x", client=2)
    calls = ("VolumesList", "SnapshotsList", "AttachmentsList", "VolumeTemplatesList", "ClientsConfigDump")
    remembered = [before.get(call) for call in calls]
    after = make_caller()
    assert [after.get(call) for call in calls] == remembered
    assert after.create() not in {before["globalId"] for before in remembered[0]}


def test_two_clusters_cannot_share_a_state_directory(make_caller: Callable[..., Caller]) -> None:
    from storpool_devcluster import cluster as clusters

    running = make_caller()
    with pytest.raises(BlockingIOError):
        clusters.start(running.cluster.options)


def test_rules_that_match_fire_together_and_are_used_up(storpool: Caller) -> None:
    storpool.faults.add(
        Rule.model_validate({"match": {"query": "VolumesList"}, "action": {"kind": "delay", "seconds": 0}})
    )
    storpool.faults.add(Rule.model_validate({"action": {"kind": "error", "name": "odd"}, "skip": 1}))
    storpool.get("VolumesList")
    with pytest.raises(Failed, match="odd"):
        storpool.get("VolumesList")
    storpool.get("VolumesList")
    assert [entry.faults for entry in storpool.requests.entries()] == [("delay",), ("error",), ()]
    assert [rule["left"] for rule in storpool.faults.describe()] == [0, 0]
