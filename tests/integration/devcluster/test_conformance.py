# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The vendor's own client against the development StorPool, every answer parsed without leniency."""

import contextlib
import io
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devcluster_process import DevclusterProcess

# It says on stderr that it uses json rather than simplejson, and is a pkg_resources-style namespace package.
with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from storpool import spapi

pytestmark = pytest.mark.services

SIZE = 1 << 30


class StrictApi:
    """Calls by the vendor's names. An answer that the vendor's types do not take in full is an error."""

    def __init__(self, storpool: DevclusterProcess) -> None:
        make_api: Any = spapi.Api  # untyped
        self._api = make_api("127.0.0.1", storpool.port, storpool.token, timeout=30, multiCluster=True)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._api, name)

        def call(*arguments: Any) -> Any:
            raw = method(*arguments, returnRawAPIData=True)
            return method.__func__.__globals__["returns"](raw)

        return call


@pytest.fixture
def api(storpool: DevclusterProcess) -> StrictApi:
    return StrictApi(storpool)


@pytest.fixture
def gid(api: StrictApi) -> str:
    """An unnamed volume."""
    return str(api.volumeCreate({"size": SIZE, "template": "dev", "tags": {"cs": "volume"}}).globalId)


def test_a_volume_can_be_created_listed_described_and_deleted(api: StrictApi, gid: str) -> None:
    assert [volume.name for volume in api.volumesList()] == [f"~{gid}"]
    (volume,) = api.volumeList(f"~{gid}")
    assert (volume.size, volume.templateName, volume.tags) == (SIZE, "dev", {"cs": "volume"})
    assert (volume.bw, volume.iops, volume.clusterId) == ("-", "-", "d.n")
    assert api.volumeDescribe(f"~{gid}").globalId == gid
    assert api.volumeInfo(f"~{gid}").globalId == gid
    assert api.volumeDelete(f"~{gid}").ok
    assert api.volumesList() == []
    with pytest.raises(spapi.ApiError) as missing:
        api.volumeList(f"~{gid}")
    assert missing.value.name == "objectDoesNotExist"


def test_a_volume_can_be_updated(api: StrictApi, gid: str) -> None:
    api.volumeUpdate(f"~{gid}", {"size": 2 * SIZE, "iops": 5000, "bw": 1 << 20, "rename": "disk"})
    (volume,) = api.volumeList("disk")
    assert (volume.size, volume.iops, volume.bw, volume.globalId) == (2 * SIZE, 5000, 1 << 20, gid)
    api.volumeUpdate("disk", {"sizeAdd": SIZE, "iops": "-"})
    (volume,) = api.volumeList("disk")
    assert (volume.size, volume.iops) == (3 * SIZE, "-")


def test_status_and_space_cover_volumes_and_snapshots(api: StrictApi, gid: str) -> None:
    snapshot = api.snapshotCreate(f"~{gid}", {}).snapshotGlobalId
    assert {status.snapshot for status in api.volumesStatus().values()} == {True, False}
    assert set(api.volumesQuickStatus()) == {f"~{gid}", f"~{snapshot}"}
    assert [space.globalId for space in api.volumesSpace()] == [gid]
    assert [space.globalId for space in api.snapshotsSpace()] == [snapshot]


def test_snapshots_can_be_made_listed_cloned_updated_and_deleted(api: StrictApi, gid: str) -> None:
    made = api.snapshotCreate(f"~{gid}", {"name": "base", "tags": {"cs": "snapshot"}})
    (snapshot,) = api.snapshotList("base")
    assert (snapshot.globalId, snapshot.onVolume, snapshot.tags) == (
        made.snapshotGlobalId,
        f"~{gid}",
        {"cs": "snapshot"},
    )
    assert [snapshot.name for snapshot in api.snapshotsList()] == ["base"]
    assert [snapshot.name for snapshot in api.volumeListSnapshots(f"~{gid}")] == ["base"]
    clone = api.volumeCreate({"parent": "base"})
    assert api.volumeList(clone.name)[0].parentName == "base"
    api.snapshotUpdate("base", {"rename": "renamed", "deleteAfter": 3600})
    assert api.snapshotDescribe("renamed").targetDeleteDate == pytest.approx(time.time() + 3600, abs=60)
    assert api.snapshotInfo("renamed").name == "renamed"
    assert api.snapshotDelete("renamed").ok
    (deleted,) = api.snapshotsList()
    assert (deleted.name, deleted.deleted) == ("*renamed", True)


def test_a_snapshot_is_exported_and_taken_back(api: StrictApi, gid: str) -> None:
    snapshot = api.snapshotCreate(f"~{gid}", {}).snapshotGlobalId
    assert api.snapshotExport({"snapshot": f"~{snapshot}", "location": "far"}).ok
    (export,) = api.exportsList()["exports"]
    assert (export.globalId, export.location) == (snapshot, "far")
    assert api.snapshotUnexport({"snapshot": f"~{snapshot}", "all": True, "force": True}).ok
    assert api.snapshotDelete(f"~{snapshot}").ok


def test_a_clone_of_a_named_volume_names_its_transient_snapshot(api: StrictApi) -> None:
    api.volumeCreate({"name": "origin", "size": SIZE})
    made = api.volumeCreate({"name": "copy", "baseOn": "origin"})
    (snapshot,) = api.snapshotList(made.autoName)
    assert (snapshot.transient, snapshot.autoName, snapshot.onVolume) == (True, True, "origin")


def test_a_group_of_volumes_is_snapshotted_together(api: StrictApi, gid: str) -> None:
    other = api.volumeCreate({"name": "named", "size": SIZE}).globalId
    made = api.snapshotCreateGroup({"volumes": [{"volume": f"~{gid}"}, {"volume": "named"}], "tags": {"cs": "group"}})
    assert [(entry.volume, entry.volumeGlobalId) for entry in made.snapshots] == [(f"~{gid}", gid), ("named", other)]
    assert all(snapshot.tags == {"cs": "group"} for snapshot in api.snapshotsList())


def test_a_volume_can_be_reverted_and_frozen(api: StrictApi, gid: str) -> None:
    snapshot = api.snapshotCreate(f"~{gid}", {}).snapshotGlobalId
    assert api.volumeRevert(f"~{gid}", {"toSnapshot": f"~{snapshot}"}).ok
    assert api.volumeFreeze(f"~{gid}", None).ok
    assert {frozen.globalId for frozen in api.snapshotsList()} == {gid, snapshot}


def test_a_volume_is_attached_seen_and_detached(api: StrictApi, gid: str, dev1: Path) -> None:
    attach = {"reassign": [{"volume": f"~{gid}", "rw": [1], "onRemoteAttached": "export"}], "attachTimeout": 10}
    assert api.volumesReassignWait(attach).ok
    (attachment,) = api.attachmentsList()
    assert (attachment.globalId, attachment.client, attachment.rights, attachment.pos) == (gid, 1, "rw", 0)
    assert (dev1 / "storpool-byid" / gid).is_block_device()
    assert api.volumesReassign([{"volume": f"~{gid}", "detach": "all", "force": True}]).ok
    assert api.attachmentsList() == []


def test_services_and_clients_are_as_the_vendor_knows_them(api: StrictApi) -> None:
    services = api.servicesList()
    assert services.clusterStatus == "running"
    assert set(services.clients) == {1, 2, 3}
    (config,) = api.clientConfigWait(1)
    assert (config.id, config.configStatus, config.generation) == (1, "ok", config.clientGeneration)
    assert [client.id for client in api.clientsConfigDump()] == [1, 2, 3]


def test_templates_can_be_made_changed_and_deleted(api: StrictApi) -> None:
    api.volumeTemplateCreate({"name": "fast", "placeAll": "nvme", "size": SIZE, "iops": 1000})
    assert [template.name for template in api.volumeTemplatesList()] == ["dev", "fast"]
    volume = api.volumeCreate({"template": "fast"})
    assert api.volumeList(volume.name)[0].placeAll == "nvme"
    assert api.volumeList(volume.name)[0].iops == 1000
    status = {status.name: status for status in api.volumeTemplatesStatus()}
    assert status["fast"].volumesCount == 1
    assert status["fast"].stored.capacity > 0
    api.volumeTemplateUpdate("fast", {"rename": "faster", "iops": 2000, "propagate": True})
    assert api.volumeTemplateDescribe("faster").iops == 2000
    assert api.volumeList(volume.name)[0].templateName == "faster"
    api.volumeDelete(volume.name)
    assert api.volumeTemplateDelete("faster").ok
