# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which snapshot is of which volume, by the answers of several versions of StorPool."""

from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest

from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolTimeout
from storpool_agent.storpool import groups, snapshots
from storpool_agent.storpool.answers import Done, GroupTakenAnswer, VolumeAnswer
from storpool_agent.storpool.api import Query
from storpool_agent.storpool.model import NewSnapshot, Volume

ONE = Volume("a.b.1", "~a.b.1", 512, snapshot=False)
TWO = Volume("a.b.2", "vm-2", 512, snapshot=False)
PLAIN = NewSnapshot()


def listed(counter: str, **members: Any) -> dict[str, Any]:
    return {"name": f"~a.b.{counter}", "globalId": f"a.b.{counter}", "size": 512, "tags": {"sp-op": "op"}, **members}


class Scripted:
    """An API that has these snapshots."""

    def __init__(self, *snapshots: dict[str, Any], parents: dict[str, str] | None = None) -> None:
        self.stopping = Event()
        self.stopping.set()
        self.address = "sp:81"
        self.answer: dict[str, Any] = {"snapshots": []}
        self.snapshots = list(snapshots)
        self.deleted: list[str | None] = []
        self.made = 0
        self._parents = parents or {}

    def call(self, query: Query[Any], _deadline: Deadline) -> Any:
        match query.name:
            case "MultiCluster/SnapshotsList":
                return [VolumeAnswer.model_validate(each) for each in self.snapshots]
            case "MultiCluster/VolumesGroupSnapshot":
                self.made += 1
                return GroupTakenAnswer.model_validate(self.answer)
            case "MultiCluster/SnapshotDelete":
                self.deleted.append(query.argument)
                return Done(ok=True)
            case "MultiCluster/Volume":
                volume = {str(each.reference): each for each in (ONE, TWO)}[str(query.argument)]
                parent = self._parents.get(volume.global_id, "")
                members = {"name": volume.name, "globalId": volume.global_id, "size": 512, "parentName": parent}
                return [VolumeAnswer.model_validate(members)]
            case _:
                raise AssertionError(query.name)


def group(api: Scripted, *, look_first: bool = False) -> Sequence[str]:
    untyped: Any = api
    taken = groups.take(untyped, [ONE, TWO], PLAIN, "op", Deadline.after(5), look_first=look_first)
    return [each.global_id for each in taken]


def single(api: Scripted) -> str:
    untyped: Any = api
    return snapshots.take(untyped, TWO, PLAIN, "op", Deadline.after(5), look_first=True).global_id


@pytest.mark.parametrize(
    "answer",
    [
        [
            {"volumeGlobalId": "a.b.2", "snapshotGlobalId": "a.b.z"},
            {"volumeGlobalId": "a.b.1", "snapshotGlobalId": "a.b.y"},
        ],
        [{"volume": "vm-2", "snapshotGlobalId": "a.b.z"}, {"volume": "~a.b.1", "snapshotGlobalId": "a.b.y"}],
        [{"volume": "~a.b.2", "snapshotGlobalId": "a.b.z"}, {"volume": "~a.b.1", "snapshotGlobalId": "a.b.y"}],
    ],
    ids=["by global id", "by name", "by reference"],
)
def test_an_answer_is_matched_by_what_it_names(answer: list[dict[str, str]]) -> None:
    api = Scripted()
    api.answer = {"snapshots": answer}
    assert group(api) == ["a.b.y", "a.b.z"]


@pytest.mark.parametrize(
    ("one", "two", "parents"),
    [
        ({"createdFromGlobalId": "a.b.1"}, {"createdFromGlobalId": "a.b.2"}, {}),
        ({"onVolume": "~a.b.1"}, {"onVolume": "vm-2"}, {}),
        ({"onVolume": "-"}, {"onVolume": "-"}, {"a.b.1": "~a.b.y", "a.b.2": "~a.b.z"}),
        (
            {"createdFromGlobalId": "a.b.y", "onVolume": "~a.b.1"},
            {"createdFromGlobalId": "a.b.z", "onVolume": "vm-2"},
            {},
        ),
    ],
    ids=["by origin", "by volume", "by parent", "by volume when the origin is not told"],
)
def test_a_group_is_found_by_what_each_snapshot_says(
    one: dict[str, str], two: dict[str, str], parents: dict[str, str]
) -> None:
    api = Scripted(listed("z", **two), listed("y", **one), parents=parents)
    assert group(api, look_first=True) == ["a.b.y", "a.b.z"]
    assert api.made == 0


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([{"onVolume": "-"}, {"onVolume": "vm-2"}], id="one does not say of what it is"),
        pytest.param([{"createdFromGlobalId": "a.b.2"}, {"createdFromGlobalId": "a.b.2"}], id="two of one volume"),
        pytest.param([{"createdFromGlobalId": "a.b.2"}, {"createdFromGlobalId": "a.b.3"}], id="of another volume"),
        pytest.param([{"createdFromGlobalId": "a.b.2"}], id="one is missing"),
        pytest.param(
            [{"createdFromGlobalId": "a.b.2"}, {"createdFromGlobalId": "a.b.1"}, {"createdFromGlobalId": "a.b.1"}],
            id="one too many",
        ),
    ],
)
def test_what_cannot_be_matched_surely_is_not_guessed(members: list[dict[str, str]]) -> None:
    api = Scripted(*(listed(counter, **each) for counter, each in zip("xyz", members, strict=False)))
    with pytest.raises(StorPoolTimeout, match="not known"):
        group(api, look_first=True)
    assert (api.made, api.deleted) == (0, [])


def test_the_older_group_is_the_one_that_stays() -> None:
    """Within a second by the counter of the global id, which is a number in base 36."""
    same_s = {"creationTimestamp": 7}
    api = Scripted(
        listed("10", createdFromGlobalId="a.b.1", **same_s),
        listed("11", createdFromGlobalId="a.b.2", **same_s),
        listed("z", createdFromGlobalId="a.b.2", **same_s),
        listed("y", createdFromGlobalId="a.b.1", **same_s),
    )
    assert group(api, look_first=True) == ["a.b.y", "a.b.z"]
    assert api.deleted == ["~a.b.10", "~a.b.11"]


def test_of_two_snapshots_the_older_stays() -> None:
    api = Scripted(
        listed("3", creationTimestamp=8, createdFromGlobalId="a.b.2"),
        listed("4", creationTimestamp=7, createdFromGlobalId="a.b.2"),
    )
    assert single(api) == "a.b.4"
    assert api.deleted == ["~a.b.3"]


def test_a_snapshot_that_does_not_say_of_what_it_is_is_not_guessed() -> None:
    api = Scripted(listed("3", onVolume="-"))
    with pytest.raises(StorPoolTimeout, match=r"~a\.b\.3"):
        single(api)


def test_snapshots_that_are_not_there_for_us_do_not_count() -> None:
    gone = {"createdFromGlobalId": "a.b.2", "onVolume": "vm-2"}
    api = Scripted(listed("3", deleted=True, **gone), listed("4", transient=True, **gone), listed("5", **gone))
    assert single(api) == "a.b.5"
    assert api.deleted == []
