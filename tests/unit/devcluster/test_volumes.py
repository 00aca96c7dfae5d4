# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rules of volumes."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import pytest

from storpool_devcluster import qos
from storpool_devcluster.qos import Tier

from .conftest import Caller, Failed


def volume(storpool: Caller, reference: str) -> dict[str, Any]:
    (found,) = storpool.get(f"Volume/{reference}")
    return dict(found)


def test_an_unnamed_volume_goes_by_its_global_id(storpool: Caller) -> None:
    gid = storpool.create()
    assert volume(storpool, f"~{gid}")["name"] == f"~{gid}"
    assert gid.startswith("d.n.")


def test_volumes_and_snapshots_share_their_names(storpool: Caller) -> None:
    storpool.create("taken")
    storpool.snapshot("taken", name="also-taken")
    for name in ("taken", "also-taken"):
        with pytest.raises(Failed, match="objectExists"):
            storpool.create(name)


@pytest.mark.parametrize("name", [".", "..", "list", "a/b", "a b", "x" * 200, "a\n", "~d.n.1"])
def test_a_name_that_cannot_be_is_refused(storpool: Caller, name: str) -> None:
    with pytest.raises(Failed, match="invalidParam"):
        storpool.create(name)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        pytest.param({"size": 513}, "multiple of 512", id="no whole sectors"),
        pytest.param({"size": 0}, "greater than or equal to 1", id="nothing"),
        pytest.param({"size": None}, "size: needed", id="no size at all"),
        pytest.param({"template": "no-such"}, "Template 'no-such' does not exist", id="unknown template"),
        pytest.param({"parent": "no-such"}, "Snapshot 'no-such' does not exist", id="unknown parent"),
        pytest.param({"tags": {"uuid": "a/b"}}, "must match", id="a path in a tag"),
        pytest.param({"sise": 512}, "sise: Extra inputs are not permitted", id="a misspelt key"),
    ],
)
def test_a_volume_that_cannot_be_is_refused(storpool: Caller, members: dict[str, Any], says: str) -> None:
    with pytest.raises(Failed, match=says):
        storpool.create(**members)
    assert storpool.volume_names() == []


def test_unknown_keys_are_dropped_when_not_strict(make_caller: Callable[..., Caller]) -> None:
    assert make_caller(strict=False).create("x", sise=512)


def test_numbers_may_be_strings_and_nulls_are_as_good_as_absent(storpool: Caller) -> None:
    gid = storpool.create(size="1024", iops="500", bw=None)
    assert volume(storpool, f"~{gid}") | {"size": 1024, "iops": 500, "bw": "-"} == volume(storpool, f"~{gid}")


def test_a_volume_takes_size_and_limits_of_its_template(storpool: Caller) -> None:
    storpool.post("VolumeTemplateCreate", {"name": "gold", "size": 4096, "iops": 700})
    gid = storpool.create(size=None, template="gold", bw=9)
    found = volume(storpool, f"~{gid}")
    assert (found["size"], found["iops"], found["bw"], found["templateName"]) == (4096, 700, 9, "gold")


def test_a_clone_has_the_size_of_its_parent_or_more(storpool: Caller) -> None:
    storpool.create("origin")
    snapshot = storpool.snapshot("origin")
    clone = storpool.create(size=None, parent=f"~{snapshot}")
    assert volume(storpool, f"~{clone}")["size"] == 1 << 20
    assert volume(storpool, f"~{clone}")["parentName"].startswith("origin@")
    with pytest.raises(Failed, match="below the parent's"):
        storpool.create(size=512, parent=f"~{snapshot}")


def test_a_snapshot_comes_between_a_volume_and_its_parent(storpool: Caller) -> None:
    storpool.create("origin")
    first, second = storpool.snapshot("origin"), storpool.snapshot("origin")
    chain = [item["globalId"] for item in storpool.get("VolumeListSnapshots/origin")]
    assert chain == [second, first]


def test_tags_merge_and_an_empty_one_removes(storpool: Caller) -> None:
    storpool.create("x", tags={"a": "1", "b": "2"})
    storpool.post("VolumeUpdate/x", {"tags": {"b": "", "c": "3"}})
    assert volume(storpool, "x")["tags"] == {"a": "1", "c": "3"}


def test_shrinking_has_to_be_meant(storpool: Caller) -> None:
    storpool.create("x")
    with pytest.raises(Failed, match="shrinkOk"):
        storpool.post("VolumeUpdate/x", {"size": 512})
    storpool.post("VolumeUpdate/x", {"size": 512, "shrinkOk": True})
    storpool.post("VolumeUpdate/x", {"sizeAdd": 512})
    assert volume(storpool, "x")["size"] == 1024


def test_an_empty_new_name_takes_the_name_away(storpool: Caller) -> None:
    gid = storpool.create("x")
    answer = storpool.post("VolumeUpdate/x", {"rename": ""})
    assert answer["name"] == f"~{gid}"
    with pytest.raises(Failed, match="objectDoesNotExist"):
        storpool.get("Volume/x")


def test_an_attached_volume_is_deleted_only_when_asked_to_detach(storpool: Caller) -> None:
    storpool.create("x")
    storpool.attach("x")
    with pytest.raises(Failed, match="busy"):
        storpool.post("VolumeDelete/x", {})
    storpool.post("VolumeDelete/x", {"onAttached": "detachForce"})
    assert storpool.volume_names() == []
    assert storpool.get("AttachmentsList") == []
    with pytest.raises(Failed, match="objectDoesNotExist"):
        storpool.post("VolumeDelete/x")


def test_an_attached_volume_is_reverted_only_by_a_switch(make_caller: Callable[..., Caller]) -> None:
    storpool = make_caller()
    storpool.create("x")
    snapshot = storpool.snapshot("x")
    storpool.attach("x")
    with pytest.raises(Failed, match="busy"):
        storpool.post("VolumeRevert/x", {"toSnapshot": f"~{snapshot}"})
    assert make_caller(revert_attached=True).post("VolumeRevert/x", {"toSnapshot": f"~{snapshot}"})["ok"]


def test_a_revert_keeps_the_size_unless_asked(storpool: Caller) -> None:
    storpool.create("x")
    snapshot = storpool.snapshot("x")
    storpool.post("VolumeUpdate/x", {"size": 2 << 20})
    storpool.post("VolumeRevert/x", {"toSnapshot": f"~{snapshot}"})
    assert volume(storpool, "x")["size"] == 2 << 20
    storpool.post("VolumeRevert/x", {"toSnapshot": f"~{snapshot}", "revertSize": True})
    assert volume(storpool, "x")["size"] == 1 << 20


def test_a_frozen_volume_is_a_snapshot_of_the_same_name_and_id(storpool: Caller) -> None:
    gid = storpool.create("x")
    storpool.post("VolumeFreeze/x")
    assert storpool.get("Snapshot/x")[0]["globalId"] == gid
    with pytest.raises(Failed, match="objectDoesNotExist"):
        storpool.post("VolumeFreeze/x")


def test_the_tier_of_a_volume_overrides_its_limits(make_caller: Callable[..., Caller]) -> None:
    storpool = make_caller(tiers={"gold": Tier(iops=9000)})
    storpool.create("x", tags={"qc": "gold"}, iops=1, bw=2)
    storpool.create("other", iops=1)
    qos.enforce(storpool.cluster)
    assert (volume(storpool, "x")["iops"], volume(storpool, "x")["bw"]) == (9000, "-")
    assert volume(storpool, "other")["iops"] == 1


def test_a_tier_is_set_within_its_period(make_caller: Callable[..., Caller]) -> None:
    storpool = make_caller(tiers={"gold": Tier(iops=9000)}, qos_interval_s=0.05)
    storpool.create("x", iops=1)
    storpool.post("VolumeUpdate/x", {"tags": {"qc": "gold"}})
    give_up = monotonic() + 10
    while volume(storpool, "x")["iops"] != 9000:
        assert monotonic() < give_up
        sleep(0.01)


@pytest.mark.parametrize(("resets", "iops"), [(False, 7), (True, 1000)])
def test_a_revert_may_reset_the_limits(make_caller: Callable[..., Caller], resets: bool, iops: int) -> None:
    storpool = make_caller(revert_resets_limits=resets)
    storpool.post("VolumeTemplateCreate", {"name": "fast", "iops": 1000})
    storpool.create("x", template="fast", iops=7)
    storpool.snapshot("x", name="before")
    storpool.post("VolumeRevert/x", {"toSnapshot": "before"})
    assert volume(storpool, "x")["iops"] == iops
