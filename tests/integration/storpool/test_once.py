# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One object for an operation: answers that are lost, and two agents that run it at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from time import monotonic, sleep
from typing import Any

import pytest
from pydantic import SecretStr

from devcluster_process import DevclusterProcess
from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolTimeout, VolumeBusy
from storpool_agent.storpool.cluster import Cluster
from storpool_agent.storpool.model import NewSnapshot, NewVolume, Volume
from storpool_commands.references import Reference

MIB = 1 << 20
NEW = NewVolume(MIB, "dev")
HTML = "<html><body>502 Bad Gateway</body></html>"

LOST = [
    pytest.param({"kind": "reset_before"}, id="reset before it was done"),
    pytest.param({"kind": "reset_after"}, id="reset after it was done"),
    pytest.param({"kind": "close_after"}, id="closed after it was done"),
    pytest.param({"kind": "truncate_body", "bytes": 5}, id="cut off"),
    pytest.param({"kind": "raw", "status": 502, "body": HTML, "processed": True}, id="a proxy's page"),
]

Make = Callable[[Cluster, Sequence[Volume], bool], Sequence[Volume]]


def soon() -> Deadline:
    return Deadline.after(10)


def a_volume(cluster: Cluster, _volumes: Sequence[Volume], look_first: bool) -> Sequence[Volume]:
    return [cluster.create_volume(NEW, "op", soon(), look_first=look_first)]


def a_clone(cluster: Cluster, _volumes: Sequence[Volume], look_first: bool) -> Sequence[Volume]:
    parent = cluster.snapshot(Reference("name", "base"), soon())
    return [cluster.create_volume(NewVolume(MIB, "dev", parent=parent), "op", soon(), look_first=look_first)]


def a_snapshot(cluster: Cluster, volumes: Sequence[Volume], look_first: bool) -> Sequence[Volume]:
    return [cluster.take_snapshot(volumes[0], NewSnapshot(), "op", soon(), look_first=look_first)]


def a_named_snapshot(cluster: Cluster, volumes: Sequence[Volume], look_first: bool) -> Sequence[Volume]:
    return [cluster.take_snapshot(volumes[0], NewSnapshot("before"), "op", soon(), look_first=look_first)]


def a_group(cluster: Cluster, volumes: Sequence[Volume], look_first: bool) -> Sequence[Volume]:
    return cluster.take_group_snapshot(volumes, NewSnapshot(), "op", soon(), look_first=look_first)


KINDS = [
    pytest.param(a_volume, "VolumeCreate", id="volume"),
    pytest.param(a_clone, "VolumeCreate", id="clone"),
    pytest.param(a_snapshot, "VolumeSnapshot", id="snapshot"),
    pytest.param(a_named_snapshot, "VolumeSnapshot", id="named snapshot"),
    pytest.param(a_group, "VolumesGroupSnapshot", id="group"),
]


@pytest.fixture
def volumes(cluster: Cluster) -> list[Volume]:
    named = cluster.create_volume(NewVolume(MIB, "dev", name="vm-1"), "v2", soon())
    unnamed = cluster.create_volume(NEW, "v1", soon())
    cluster.take_snapshot(unnamed, NewSnapshot("base"), "base", soon())
    return [unnamed, named]


@pytest.fixture
def other_agent(devcluster: DevclusterProcess) -> Cluster:
    return Cluster(devcluster.api, SecretStr(devcluster.token), 2, Event())


def of_operation(devcluster: DevclusterProcess) -> set[str]:
    listed: list[dict[str, Any]] = devcluster.call("GET", "VolumesList") + devcluster.call("GET", "SnapshotsList")
    return {each["globalId"] for each in listed if each["tags"].get("sp-op") == "op" and not each.get("deleted")}


def wait_for_request(devcluster: DevclusterProcess, query: str, count: int) -> None:
    give_up = monotonic() + 10
    while len(devcluster.sim.requests(query)) < count:
        assert monotonic() < give_up, f"no {query}"
        sleep(0.01)


@pytest.mark.parametrize(("make", "query"), KINDS)
@pytest.mark.parametrize("lost", LOST)
def test_a_lost_answer_makes_no_second_one(
    cluster: Cluster,
    devcluster: DevclusterProcess,
    volumes: list[Volume],
    make: Make,
    query: str,
    lost: dict[str, Any],
) -> None:
    devcluster.sim.fault(lost, query=query, body_re='"op"')
    made = make(cluster, volumes, False)
    assert of_operation(devcluster) == {each.global_id for each in made}
    found = {"VolumesGroupSnapshot": volumes, "VolumeSnapshot": volumes[:1]}.get(query, [])
    assert [each.on_volume for each in made if each.snapshot] == [each.name for each in found]


@pytest.mark.parametrize(("make", "query"), KINDS)
def test_what_is_not_known_to_be_made_is_found_by_the_next_run(
    cluster: Cluster, devcluster: DevclusterProcess, volumes: list[Volume], make: Make, query: str
) -> None:
    transient = {"kind": "error", "name": "notReady", "transient": True}
    devcluster.sim.fault({"kind": "close_after"}, query=query, body_re='"op"')
    for looked in ("VolumesList", "SnapshotsList"):
        devcluster.sim.fault(transient, query=looked, times=None)
    stopping = Event()
    impatient = Cluster(devcluster.api, SecretStr(devcluster.token), 1, stopping)
    stopping.set()
    with pytest.raises(StorPoolTimeout, match=r"not known|may have been done"):
        make(impatient, volumes, False)
    devcluster.sim.clear_faults()
    made = make(cluster, volumes, True)
    assert of_operation(devcluster) == {each.global_id for each in made}


@pytest.mark.parametrize(("make", "query"), KINDS)
def test_of_two_agents_at_the_same_time_the_later_takes_what_the_earlier_made(
    cluster: Cluster,
    other_agent: Cluster,
    devcluster: DevclusterProcess,
    volumes: list[Volume],
    make: Make,
    query: str,
) -> None:
    """The second has looked, found nothing, and its request is on its way while the first runs from start to end."""
    devcluster.sim.reset()
    devcluster.sim.fault({"kind": "delay", "seconds": 1.5}, query=query, body_re='"op"')
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(make, other_agent, volumes, True)
        wait_for_request(devcluster, "VolumesList" if query == "VolumeCreate" else "SnapshotsList", 1)
        early = make(cluster, volumes, True)
        assert ids(late.result()) == ids(early)
    assert of_operation(devcluster) == set(ids(early))
    assert len(devcluster.sim.requests(query)) >= 2


@pytest.mark.parametrize(("make", "query"), KINDS)
def test_two_agents_at_the_same_time_agree(
    cluster: Cluster,
    other_agent: Cluster,
    devcluster: DevclusterProcess,
    volumes: list[Volume],
    make: Make,
    query: str,
) -> None:
    devcluster.sim.fault({"kind": "delay", "seconds": 0.3}, times=2, query=query, body_re='"op"')
    with ThreadPoolExecutor(2) as threads:
        both: list[Future[Sequence[Volume]]] = [
            threads.submit(make, agent, volumes, True) for agent in (cluster, other_agent)
        ]
        first, second = (ids(each.result()) for each in both)
    assert first == second
    assert of_operation(devcluster) == set(first)


def ids(made: Sequence[Volume]) -> list[str]:
    return [each.global_id for each in made]


def test_a_second_one_that_is_attached_is_not_deleted(cluster: Cluster, devcluster: DevclusterProcess) -> None:
    older = cluster.create_volume(NEW, "op", soon())
    younger = devcluster.create(template="dev", tags={"sp-op": "op"})
    devcluster.attach(younger, client=2)
    with pytest.raises(VolumeBusy) as caught:
        cluster.create_volume(NEW, "op", soon(), look_first=True)
    assert caught.value.facts["volume"] == younger
    assert of_operation(devcluster) == {older.global_id, younger}


def test_a_group_that_is_not_whole_any_more_is_not_guessed(
    cluster: Cluster, devcluster: DevclusterProcess, volumes: list[Volume]
) -> None:
    group = cluster.take_group_snapshot(volumes, NewSnapshot(), "op", soon())
    cluster.delete_volume(group[1], soon())
    with pytest.raises(StorPoolTimeout, match="no whole group") as caught:
        cluster.take_group_snapshot(volumes, NewSnapshot(), "op", Deadline.after(1), look_first=True)
    assert group[0].global_id in str(caught.value)
    assert of_operation(devcluster) == {group[0].global_id}


def test_snapshots_of_one_operation_of_several_volumes_are_kept_apart(
    cluster: Cluster, devcluster: DevclusterProcess, volumes: list[Volume]
) -> None:
    first, second = (cluster.take_snapshot(each, NewSnapshot(), "op", soon(), look_first=True) for each in volumes)
    again = cluster.take_snapshot(volumes[0], NewSnapshot(), "op", soon(), look_first=True)
    assert again.global_id == first.global_id
    assert of_operation(devcluster) == {first.global_id, second.global_id}
