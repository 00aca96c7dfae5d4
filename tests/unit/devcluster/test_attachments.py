# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rules of attaching and detaching."""

from typing import Any

import pytest

from .conftest import Caller, Failed


def attached(storpool: Caller) -> set[tuple[int, str]]:
    return {(item["client"], item["rights"]) for item in storpool.get("AttachmentsList")}


def test_attaching_again_is_a_success_and_other_rights_are_taken_over(storpool: Caller) -> None:
    storpool.create("x")
    storpool.attach("x")
    generation = storpool.get("ClientConfigWait/1")[0]["generation"]
    storpool.attach("x")
    assert storpool.get("ClientConfigWait/1")[0]["generation"] == generation
    storpool.post("VolumesReassign", [{"volume": "x", "ro": ["1"]}])
    assert attached(storpool) == {(1, "ro")}


def test_several_clients_may_write(storpool: Caller) -> None:
    storpool.create("x")
    storpool.post("VolumesReassign", [{"volume": "x", "rw": [1, 2], "ro": [3]}])
    assert attached(storpool) == {(1, "rw"), (2, "rw"), (3, "ro")}


def test_detaching_from_all_leaves_those_that_are_named(storpool: Caller) -> None:
    storpool.create("x")
    storpool.post("VolumesReassign", [{"volume": "x", "rw": [1, 2]}])
    storpool.post("VolumesReassign", [{"volume": "x", "rw": [3], "detach": "all", "force": True}])
    assert attached(storpool) == {(3, "rw")}


@pytest.mark.parametrize("detach", [[1], ["1"], "all"])
def test_detaching_what_is_not_attached_is_a_success(storpool: Caller, detach: Any) -> None:
    storpool.create("x")
    assert storpool.post("VolumesReassign", [{"volume": "x", "detach": detach}])["ok"]


def test_the_wait_takes_a_bare_list_too(storpool: Caller) -> None:
    storpool.create("x")
    storpool.post("VolumesReassignWait", [{"volume": "x", "rw": [1]}])
    assert attached(storpool) == {(1, "rw")}


@pytest.mark.parametrize(
    ("item", "says"),
    [
        pytest.param({"volume": "y", "rw": [1]}, "Volume 'y' does not exist", id="no such volume"),
        pytest.param({"volume": "x", "rw": [9]}, "^invalidParam: No such client registered$", id="no such client"),
        pytest.param({"volume": "x", "rww": [1]}, "Extra inputs", id="misspelt rights"),
        pytest.param({"snapshot": "s", "rw": [1]}, "a snapshot cannot be attached rw", id="snapshot rw"),
        pytest.param({"volume": "s", "rw": [1]}, "Volume 's' does not exist", id="a snapshot as volume"),
        pytest.param({"rw": [1]}, "one of volume and snapshot", id="nothing to attach"),
        pytest.param({"volume": "x", "rw": [1], "ro": [1]}, "both rw and ro", id="two rights"),
        pytest.param({"volume": "x", "detach": "some"}, "detach", id="neither clients nor all"),
    ],
)
def test_one_wrong_item_leaves_all_of_its_call_undone(storpool: Caller, item: dict[str, Any], says: str) -> None:
    storpool.create("x")
    storpool.snapshot("x", name="s")
    good = {"volume": "x", "rw": [2]}
    with pytest.raises(Failed, match=says):
        storpool.post("VolumesReassignWait", {"reassign": [good, item], "attachTimeout": 5})
    assert attached(storpool) == set()


def test_positions_are_used_again(storpool: Caller) -> None:
    for name in ("a", "b", "c"):
        storpool.create(name)
        storpool.attach(name)
    storpool.post("VolumesReassign", [{"volume": "a", "detach": [1]}])
    storpool.create("d")
    storpool.attach("d")
    assert {item["volume"]: item["pos"] for item in storpool.get("AttachmentsList")} == {"b": 1, "c": 2, "d": 0}


def test_a_client_has_no_more_than_1024_attachments(storpool: Caller) -> None:
    gids = [storpool.create(size=512) for _ in range(1025)]
    storpool.post("VolumesReassign", [{"volume": f"~{gid}", "rw": [1]} for gid in gids[:1024]])
    with pytest.raises(Failed, match="invalidParam: No free attachment slot at client 1"):
        storpool.attach(f"~{gids[1024]}")
    storpool.attach(f"~{gids[1024]}", client=2)
