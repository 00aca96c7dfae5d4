# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rules of snapshots."""

import time

import pytest

from storpool_devcluster import expiry

from .conftest import Caller, Failed


def test_the_snapshot_of_a_named_volume_gets_a_name_of_its_own(storpool: Caller) -> None:
    storpool.create("x")
    answer = storpool.post("VolumeSnapshot/x")
    assert answer["autoName"] == f"x@{answer['snapshotVisibleVolumeId']}"
    assert storpool.snapshot_names() == [answer["autoName"]]


def test_the_snapshot_of_an_unnamed_volume_stays_unnamed(storpool: Caller) -> None:
    gid = storpool.create(tags={"cs": "volume"})
    answer = storpool.post(f"VolumeSnapshot/~{gid}", {})
    assert "autoName" not in answer
    (snapshot,) = storpool.get(f"Snapshot/~{answer['snapshotGlobalId']}")
    assert (snapshot["name"], snapshot["tags"]) == (f"~{answer['snapshotGlobalId']}", {})


def test_a_snapshot_with_children_stays_as_deleted_until_the_last_is_gone(storpool: Caller) -> None:
    storpool.create("x")
    storpool.snapshot("x", name="base")
    storpool.create("child", parent="base")
    storpool.post("SnapshotDelete/base", {})
    assert storpool.snapshot_names() == ["*base"]
    for reference in ("base", "*base"):
        with pytest.raises(Failed, match="objectDoesNotExist"):
            storpool.create(parent=reference)
    assert storpool.create("base"), "the name is free again"
    storpool.post("VolumeDelete/child")
    assert storpool.snapshot_names() == ["*base"]
    storpool.post("VolumeDelete/x")
    assert storpool.snapshot_names() == []


def test_a_deleted_unnamed_snapshot_is_listed_under_a_name_clients_can_parse(storpool: Caller) -> None:
    gid = storpool.create()
    snapshot = storpool.snapshot(f"~{gid}")
    storpool.post(f"SnapshotDelete/~{snapshot}")
    assert storpool.snapshot_names() == [f"*{snapshot}"]
    assert storpool.get(f"Snapshot/~{snapshot}")[0]["deleted"]


def test_an_attached_snapshot_is_not_deleted(storpool: Caller) -> None:
    storpool.create("x")
    storpool.snapshot("x", name="s")
    storpool.post("VolumesReassign", [{"snapshot": "s", "ro": [1]}])
    with pytest.raises(Failed, match="busy"):
        storpool.post("SnapshotDelete/s")


def test_a_bound_snapshot_goes_with_its_last_child(storpool: Caller) -> None:
    storpool.create("x")
    storpool.snapshot("x", name="s", bind=True)
    assert storpool.snapshot_names() == ["s"]
    storpool.post("VolumeDelete/x")
    assert storpool.snapshot_names() == []


def test_the_transient_snapshot_of_a_clone_cannot_be_attached_and_goes_by_itself(storpool: Caller) -> None:
    storpool.create("x")
    auto_name = storpool.post("VolumeCreate", {"name": "copy", "baseOn": "x"})["autoName"]
    with pytest.raises(Failed, match="transient"):
        storpool.post("VolumesReassign", [{"snapshot": auto_name, "ro": [1]}])
    storpool.post("VolumeDelete/x")
    storpool.post("VolumeDelete/copy")
    assert storpool.snapshot_names() == []


def test_a_snapshot_goes_at_its_time_but_not_while_it_is_attached(storpool: Caller) -> None:
    storpool.create("x")
    storpool.snapshot("x", name="past", targetDeleteDate=int(time.time()) - 1)
    storpool.snapshot("x", name="used", targetDeleteDate=int(time.time()) - 1)
    storpool.snapshot("x", name="future", deleteAfter=3600)
    storpool.post("VolumesReassign", [{"snapshot": "used", "ro": [1]}])
    expiry.expire(storpool.cluster)
    assert set(storpool.snapshot_names()) == {"*past", "used", "future"}
    storpool.post("SnapshotUpdate/future", {"deleteAfter": 0})
    assert storpool.get("Snapshot/future")[0]["targetDeleteDate"] == 0


def test_a_group_snapshot_is_all_or_nothing(storpool: Caller) -> None:
    first, second = storpool.create(), storpool.create("named")
    with pytest.raises(Failed, match="objectDoesNotExist"):
        storpool.post("VolumesGroupSnapshot", {"volumes": [{"volume": f"~{first}"}, {"volume": "missing"}]})
    assert storpool.snapshot_names() == []
    made = storpool.post(
        "VolumesGroupSnapshot",
        {"volumes": [{"volume": f"~{first}", "tags": {"n": "1"}}, {"volume": "named"}], "tags": {"cs": "group"}},
    )
    assert made["ok"]
    assert [entry["volumeGlobalId"] for entry in made["snapshots"]] == [first, second]
    assert [item["tags"] for item in storpool.get("SnapshotsList")] == [{"cs": "group", "n": "1"}, {"cs": "group"}]


def test_an_exported_snapshot_is_not_deleted(storpool: Caller) -> None:
    storpool.create("x")
    gid = storpool.snapshot("x", name="base", targetDeleteDate=int(time.time()) - 1)
    for location in ("far", "farther"):
        storpool.post("SnapshotExport", {"snapshot": "base", "location": location})
    with pytest.raises(Failed, match="still exported to far, farther"):
        storpool.post("SnapshotDelete/base")
    expiry.expire(storpool.cluster)
    exported = storpool.get("ExportsList")["exports"]
    assert [(each["globalId"], each["location"]) for each in exported] == [(gid, "far"), (gid, "farther")]
    storpool.post("SnapshotUnexport", {"snapshot": "base", "location": "far"})
    with pytest.raises(Failed, match="invalidParam"):
        storpool.post("SnapshotUnexport", {"snapshot": "base"})
    storpool.post("SnapshotUnexport", {"snapshot": "base", "all": True, "force": True})
    assert storpool.get("ExportsList") == {"exports": []}
    storpool.post("SnapshotDelete/base")
