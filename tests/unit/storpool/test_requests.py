# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire: the shapes of the API reference."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from storpool_agent.deadline import Deadline
from storpool_agent.storpool import queries
from storpool_agent.storpool.api import Query
from storpool_agent.storpool.model import NewSnapshot, NewVolume, Volume, VolumeChange
from storpool_agent.storpool.requests import Reassigned
from storpool_commands.references import Reference

VOLUME = Volume("a.b.c", "~a.b.c", 512, snapshot=False)


def body(query: Query[Any]) -> Mapping[str, Any]:
    assert query.body is not None
    sent: Mapping[str, Any] = json.loads(query.body.as_json())
    return sent


def test_an_attach_is_as_storpool_s_own_client_sends_it() -> None:
    item = Reassigned.attach("~a.b.c", 1, "rw", "export", snapshot=False)
    query = queries.reassign([item], Deadline.after(11.5))
    assert query.path == "/ctrl/1.0/MultiCluster/VolumesReassignWait"
    assert body(query) == {
        "reassign": [{"volume": "~a.b.c", "rw": [1], "onRemoteAttached": "export"}],
        "attachTimeout": 10,
    }


def test_a_detach_names_one_client_and_no_force() -> None:
    item = Reassigned.release("~a.b.c", (1,), snapshot=True, force=False)
    assert body(queries.reassign([item], Deadline.after(60))) == {
        "reassign": [{"snapshot": "~a.b.c", "detach": [1], "force": False}],
        "attachTimeout": 20,
    }


def test_storpool_is_never_told_to_wait_for_ever() -> None:
    assert body(queries.reassign([], Deadline.after(0)))["attachTimeout"] == 1


def test_an_update_sends_what_changes() -> None:
    change = VolumeChange(size_bytes=1024, shrink_ok=True, iops=0, bandwidth_kib_sec=7, tags={"qc": ""})
    query = queries.update(VOLUME, change)
    assert query.path == "/ctrl/1.0/MultiCluster/VolumeUpdate/~a.b.c"
    assert body(query) == {"size": 1024, "shrinkOk": True, "iops": "-", "bw": 7, "tags": {"qc": ""}}
    assert body(queries.update(VOLUME, VolumeChange())) == {}


def test_a_create_sends_no_name_for_a_volume_without_one() -> None:
    query = queries.create(NewVolume(512, "t", bandwidth_kib_sec=7), {"sp-op": "r1"})
    assert body(query) == {"size": 512, "template": "t", "bw": 7, "tags": {"sp-op": "r1"}}
    assert not query.repeatable


def test_a_clone_names_its_parent_by_global_id() -> None:
    parent = Volume("a.b.d", "base", 512, snapshot=True)
    query = queries.create(NewVolume(512, None, parent=parent, name="x"), {})
    assert query.path == "/ctrl/1.0/MultiCluster/VolumeCreate"
    assert body(query) == {"size": 512, "parent": "~a.b.d", "name": "x", "tags": {}}


def test_a_call_for_another_cluster_is_passed_on() -> None:
    assert queries.create(NewVolume(512, "t", cluster_id="a.b"), {}).path == "/ctrl/1.0/RemoteCommand/~a.b/VolumeCreate"
    assert queries.volumes("a/../b").path == "/ctrl/1.0/RemoteCommand/~a%2F..%2Fb/VolumesList"
    assert queries.templates("a.b").path == "/ctrl/1.0/RemoteCommand/~a.b/VolumeTemplatesList"


def test_a_snapshot_sends_what_it_is_to_have() -> None:
    query = queries.snapshot(VOLUME, NewSnapshot("x", delete_after_s=60), {"sp-op": "r1"})
    assert query.path == "/ctrl/1.0/MultiCluster/VolumeSnapshot/~a.b.c"
    assert body(query) == {"name": "x", "deleteAfter": 60, "tags": {"sp-op": "r1"}}
    assert body(queries.snapshot(VOLUME, NewSnapshot(), {})) == {"tags": {}}
    assert not query.repeatable


def test_a_group_names_its_volumes_by_global_id() -> None:
    query = queries.group_snapshot([VOLUME, VOLUME], {"cs": "group"})
    assert body(query) == {"volumes": [{"volume": "~a.b.c"}, {"volume": "~a.b.c"}], "tags": {"cs": "group"}}
    assert not query.repeatable


def test_a_revert_is_not_repeated_blindly() -> None:
    query = queries.revert(VOLUME, Volume("a.b.d", "base", 512, snapshot=True), revert_size=False)
    assert query.path == "/ctrl/1.0/MultiCluster/VolumeRevert/~a.b.c"
    assert body(query) == {"toSnapshot": "~a.b.d"}
    assert not query.repeatable


def test_a_release_is_from_all_clients() -> None:
    item = Reassigned.release("~a.b.c", "all", snapshot=False, force=True)
    assert body(queries.reassign([item], Deadline.after(60)))["reassign"] == [
        {"volume": "~a.b.c", "detach": "all", "force": True}
    ]


def test_a_name_cannot_leave_its_place_in_the_path() -> None:
    query = queries.lookup(Reference("name", "#a/../b c@1"), snapshot=False)
    assert query.path == "/ctrl/1.0/MultiCluster/Volume/%23a%2F..%2Fb%20c%401"


def test_a_field_that_storpool_does_not_know_is_not_sent() -> None:
    with pytest.raises(ValidationError):
        Reassigned.model_validate({"volume": "~a.b.c", "rww": [1]})
