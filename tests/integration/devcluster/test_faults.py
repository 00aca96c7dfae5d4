# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Each fault, as its victim sees it."""

import errno
import http.client
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from block_device import eventually, is_read_only, opened, size_of
from devcluster_process import ApiError, DevclusterProcess

pytestmark = pytest.mark.services

AUTHORIZATION = "Storpool v1:development-token"


@pytest.fixture
def gid(storpool: DevclusterProcess) -> str:
    return storpool.create(name="disk")


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def get(storpool: DevclusterProcess, query: str, timeout_s: float = 10.0) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(storpool.api, timeout=timeout_s)
    connection.request("GET", f"/ctrl/1.0/{query}", headers={"Authorization": AUTHORIZATION})
    return connection.getresponse()


def volume_names(storpool: DevclusterProcess) -> list[str]:
    return [volume["name"] for volume in storpool.call("GET", "VolumesList")]


def test_an_error_is_answered_and_nothing_is_done(storpool: DevclusterProcess) -> None:
    storpool.sim.fault(
        {"kind": "error", "name": "insufficientResources", "transient": True, "status": 200}, query="VolumeCreate"
    )
    with pytest.raises(ApiError) as failed:
        storpool.create(name="first")
    assert (failed.value.name, failed.value.transient, failed.value.status) == ("insufficientResources", True, 200)
    storpool.create(name="second")
    assert volume_names(storpool) == ["second"]


def test_a_rule_skips_and_counts_and_looks_at_argument_body_and_client(storpool: DevclusterProcess, gid: str) -> None:
    error = {"kind": "error", "name": "no"}
    storpool.sim.fault(error, skip=1, times=2, query="Volume", arg_re="^disk$", method="GET")
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append(storpool.call("GET", "Volume/disk")[0]["name"])
        except ApiError as failed:
            outcomes.append(failed.name)
    assert outcomes == ["disk", "no", "no", "disk"]
    assert storpool.call("GET", f"Volume/~{gid}")
    storpool.sim.fault(error, client=2, body_re="rw")
    storpool.attach(gid, client=1)
    with pytest.raises(ApiError, match="no"):
        storpool.attach(gid, client=2)


def test_a_delayed_request_is_answered_late(storpool: DevclusterProcess) -> None:
    storpool.sim.fault({"kind": "delay", "seconds": 0.4}, query="VolumesList")
    began = time.monotonic()
    assert volume_names(storpool) == []
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("processed", [False, True])
def test_a_hanging_request_is_never_answered(storpool: DevclusterProcess, processed: bool) -> None:
    storpool.sim.fault({"kind": "hang", "processed": processed}, query="VolumeCreate")
    connection = http.client.HTTPConnection(storpool.api, timeout=0.5)
    connection.request("POST", "/ctrl/1.0/VolumeCreate", '{"name":"x","size":512}', {"Authorization": AUTHORIZATION})
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    assert volume_names(storpool) == (["x"] if processed else [])


@pytest.mark.parametrize(
    ("kind", "done", "seen"),
    [
        pytest.param("reset_before", [], ConnectionResetError, id="reset before anything is done"),
        pytest.param("reset_after", ["x"], ConnectionResetError, id="reset after it is done"),
        pytest.param("close_after", ["x"], http.client.RemoteDisconnected, id="closed after it is done"),
    ],
)
def test_an_answer_can_be_lost(storpool: DevclusterProcess, kind: str, done: list[str], seen: type[Exception]) -> None:
    storpool.sim.fault({"kind": kind}, query="VolumeCreate")
    with pytest.raises(seen):
        storpool.create(name="x")
    assert volume_names(storpool) == done
    assert [entry["faults"] for entry in storpool.sim.requests("VolumeCreate")] == [[kind]]


def test_a_body_can_end_early(storpool: DevclusterProcess) -> None:
    storpool.sim.fault({"kind": "truncate_body", "bytes": 5}, query="VolumesList")
    with get(storpool, "VolumesList") as response, pytest.raises(http.client.IncompleteRead):
        response.read()


def test_an_answer_can_drip(storpool: DevclusterProcess) -> None:
    storpool.sim.fault({"kind": "drip", "bytes_per_s": 500}, query="VolumesList")
    began = time.monotonic()
    with get(storpool, "VolumesList") as response:
        response.read()
    assert time.monotonic() - began > 0.2


def test_an_answer_can_be_something_else(storpool: DevclusterProcess) -> None:
    page = {"kind": "raw", "status": 502, "body": "<html>Bad Gateway</html>", "content_type": "text/html"}
    storpool.sim.fault(page, query="VolumeCreate")
    with pytest.raises(ValueError, match="Expecting value"):
        storpool.create(name="x")
    assert volume_names(storpool) == []


def test_connections_are_refused_for_a_while(storpool: DevclusterProcess) -> None:
    storpool.sim.fault({"kind": "refuse", "seconds": 0.5})
    assert eventually(lambda: _is_refused(storpool))
    assert eventually(lambda: not _is_refused(storpool))


def test_a_fail_over_refuses_then_fails_as_transient_then_works(storpool: DevclusterProcess) -> None:
    storpool.sim.fault({"kind": "failover", "refuse_s": 0.4, "transient_s": 0.6})
    assert eventually(lambda: _is_refused(storpool))
    assert eventually(lambda: not _is_refused(storpool))
    with pytest.raises(ApiError) as failed:
        storpool.call("GET", "VolumesList")
    assert failed.value.transient
    time.sleep(0.7)
    assert volume_names(storpool) == []


def _is_refused(storpool: DevclusterProcess) -> bool:
    try:
        get(storpool, "ServicesList").close()
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    return False


def test_a_client_can_lag_behind_the_configuration(storpool: DevclusterProcess, gid: str) -> None:
    storpool.sim.fault({"kind": "stale_generation", "seconds": 0.5}, query="VolumesReassign")
    storpool.call("POST", "VolumesReassign", [{"volume": f"~{gid}", "rw": [1]}])
    assert storpool.call("GET", "ClientsConfigDump")[0]["configStatus"] == "updating"
    (config,) = storpool.call("GET", "ClientConfigWait/1")
    assert config["clientGeneration"] == config["generation"]
    assert config["delay"] > 200


@pytest.mark.parametrize("seconds", [0.4, None])
def test_a_link_can_be_late_or_never_come(
    storpool: DevclusterProcess, gid: str, dev1: Path, seconds: float | None
) -> None:
    storpool.sim.fault({"kind": "late_link", "seconds": seconds}, query="VolumesReassignWait")
    storpool.attach(gid)
    assert not os.path.lexists(dev1 / "storpool-byid" / gid)
    assert eventually((dev1 / "storpool-byid" / gid).exists, patience_s(seconds)) == (seconds is not None)


def patience_s(seconds: float | None) -> float:
    """For what comes then; of what never comes it is seen for a second that it does not."""
    return 1.0 if seconds is None else 10.0


def capacity(device: Path) -> int:
    """0 also when the kernel does not let a loop device without a file be opened, as it may (ENXIO)."""
    try:
        return size_of(device)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return 0


def test_a_link_can_lead_to_a_device_without_capacity_first(storpool: DevclusterProcess, gid: str, dev1: Path) -> None:
    storpool.sim.fault({"kind": "wrong_link", "seconds": 0.4}, query="VolumesReassignWait")
    storpool.attach(gid)
    device = dev1 / "storpool-byid" / gid
    assert device.is_block_device()
    assert capacity(device) == 0
    assert eventually(lambda: capacity(device) == 1 << 20)
    storpool.detach(gid)
    assert [path for path in dev1.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("seconds", [0.4, None])
def test_a_new_size_can_be_late_or_never_come(
    storpool: DevclusterProcess, gid: str, dev1: Path, seconds: float | None
) -> None:
    storpool.attach(gid)
    storpool.sim.fault({"kind": "late_capacity", "seconds": seconds}, query="VolumeUpdate")
    storpool.call("POST", "VolumeUpdate/disk", {"size": 2 << 20})
    device = dev1 / "storpool-byid" / gid
    assert size_of(device) == 1 << 20
    assert eventually(lambda: size_of(device) == 2 << 20, patience_s(seconds)) == (seconds is not None)


def test_detaches_can_be_busy_in_the_words_of_the_real_one(storpool: DevclusterProcess, gid: str) -> None:
    storpool.attach(gid)
    storpool.sim.fault({"kind": "busy"}, times=2, body_re="detach")
    for _ in range(2):
        with pytest.raises(ApiError, match="'disk' is open at client 1"):
            storpool.detach(gid)
    storpool.detach(gid)


def test_links_can_disappear(storpool: DevclusterProcess, gid: str, dev1: Path) -> None:
    storpool.attach(gid)
    storpool.sim.fault({"kind": "lost_link", "volume": "disk"})
    assert eventually(lambda: not os.path.lexists(dev1 / "storpool-byid" / gid))
    assert storpool.call("GET", "AttachmentsList")
    storpool.detach(gid)


def test_a_device_can_fail(storpool: DevclusterProcess, gid: str, dev1: Path) -> None:
    storpool.attach(gid)
    with opened(dev1 / "storpool-byid" / gid, os.O_RDWR) as fd:
        storpool.sim.fault({"kind": "device_errors", "volume": f"~{gid}", "client": 1})
        assert eventually(lambda: os.lseek(fd, 0, os.SEEK_END) == 0)


def test_a_device_can_be_read_only_though_rw_was_asked_for(storpool: DevclusterProcess, gid: str, dev1: Path) -> None:
    storpool.sim.fault({"kind": "read_only"}, query="VolumesReassignWait")
    storpool.attach(gid)
    assert is_read_only(dev1 / "storpool-byid" / gid)
    assert storpool.call("GET", "AttachmentsList")[0]["rights"] == "rw"


def test_an_attach_waits_for_a_client_that_is_down(
    storpool: DevclusterProcess, gid: str, dev1: Path, background: ThreadPoolExecutor
) -> None:
    storpool.sim.client_down(1)
    with pytest.raises(ApiError) as failed:
        storpool.reassign({"volume": f"~{gid}", "rw": [1]}, attach_timeout_s=1)
    assert failed.value.name == "timeout"
    attaching = background.submit(storpool.attach, gid)
    time.sleep(0.2)
    assert not attaching.done()
    storpool.sim.client_up(1)
    attaching.result(timeout=5)
    assert (dev1 / "storpool-byid" / gid).is_block_device()


def test_an_attach_without_a_timeout_does_not_wait_for_a_client_that_is_down(
    storpool: DevclusterProcess, gid: str, dev1: Path
) -> None:
    storpool.sim.client_down(1)
    storpool.reassign({"volume": f"~{gid}", "rw": [1]}, attach_timeout_s=0)
    assert not (dev1 / "storpool-byid" / gid).exists()
    storpool.sim.client_up(1)
    assert (dev1 / "storpool-byid" / gid).is_block_device()


def test_a_client_nobody_knows_is_refused(storpool: DevclusterProcess, gid: str) -> None:
    with pytest.raises(ApiError) as failed:
        storpool.attach(gid, client=99)
    assert (failed.value.name, failed.value.descr) == ("invalidParam", "No such client registered")


def test_it_stops_although_a_request_waits_for_ever(
    storpool: DevclusterProcess, gid: str, background: ThreadPoolExecutor
) -> None:
    storpool.sim.client_down(1)
    waiting = background.submit(storpool.call, "GET", "ClientConfigWait/1")
    time.sleep(0.2)
    assert storpool.stop() == 0
    with pytest.raises(ApiError) as failed:
        waiting.result(timeout=5)
    assert failed.value.transient


def test_a_reset_forgets_rules_and_requests(storpool: DevclusterProcess) -> None:
    storpool.sim.fault({"kind": "hang"}, times=None)
    storpool.sim.reset()
    assert volume_names(storpool) == []
    entries: list[dict[str, Any]] = storpool.sim.requests()
    assert [entry["query"] for entry in entries] == ["VolumesList"]
    assert "development-token" not in str(entries)
