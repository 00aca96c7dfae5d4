# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the client makes of a StorPool that fails."""

import re
from collections.abc import Callable, Iterator
from threading import Event, Timer
from time import monotonic
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from devcluster_process import DevclusterProcess, running_devcluster
from storpool_agent.deadline import Deadline
from storpool_agent.errors import (
    AgentError,
    ClientNotRegistered,
    StorPoolBadAnswer,
    StorPoolClientDown,
    StorPoolRefused,
    StorPoolTimeout,
    StorPoolUnauthorized,
    StorPoolUnavailable,
    VolumeBusy,
)
from storpool_agent.storpool.cluster import Cluster
from storpool_agent.storpool.model import NewSnapshot, NewVolume, Volume, VolumeChange

pytestmark = pytest.mark.long

MIB = 1 << 20
NEW = NewVolume(MIB, "dev")
HTML = "<html><body>502 Bad Gateway</body></html>"


def soon() -> Deadline:
    return Deadline.after(10)


def took_s(call: Callable[[], Any]) -> float:
    began = monotonic()
    call()
    return monotonic() - began


@pytest.fixture
def volume(cluster: Cluster) -> Volume:
    return cluster.create_volume(NEW, "r0", soon())


@pytest.fixture
def lonely() -> Iterator[DevclusterProcess]:
    """A StorPool of the test's own, to be stopped and started."""
    with running_devcluster({1: None}, options=["--devices", "none"]) as process:
        yield process


def test_an_api_that_is_not_there_is_named(lonely: DevclusterProcess) -> None:
    cluster = Cluster(lonely.api, SecretStr(lonely.token), 1, Event())
    lonely.stop()
    with pytest.raises(StorPoolUnavailable, match=lonely.api) as caught:
        cluster.attachments(Deadline.after(1))
    assert caught.value.facts["api"] == lonely.api
    lonely.start()
    cluster.attachments(soon())


def test_an_api_that_is_not_there_is_given_up_after_10_seconds(lonely: DevclusterProcess) -> None:
    cluster = Cluster(lonely.api, SecretStr(lonely.token), 1, Event())
    lonely.stop()
    began = monotonic()
    with pytest.raises(StorPoolUnavailable):
        cluster.attachments(Deadline.after(60))
    assert 5 < monotonic() - began < 20


def test_an_api_that_comes_back_is_waited_for(cluster: Cluster, devcluster: DevclusterProcess) -> None:
    failover = {"kind": "failover", "refuse_s": 0.5, "transient_s": 0.5}
    devcluster.sim.fault(failover, query="VolumeCreate")
    volume = cluster.create_volume(NEW, "r1", soon())
    devcluster.sim.fault(failover, query="VolumesReassignWait")
    cluster.attach(volume, "rw", "export", soon())
    assert len(devcluster.call("GET", "VolumesList")) == 1


def test_the_stop_event_ends_the_waiting(cluster: Cluster, devcluster: DevclusterProcess, stopping: Event) -> None:
    transient = {"kind": "error", "name": "notReady", "transient": True}
    devcluster.sim.fault(transient, times=None, query="AttachmentsList")
    timer = Timer(0.3, stopping.set)
    timer.start()
    began = monotonic()
    with pytest.raises(StorPoolUnavailable) as caught:
        cluster.attachments(Deadline.after(20))
    timer.join()
    assert monotonic() - began < 5
    assert caught.value.facts["error"] == "notReady"


def test_an_answer_that_does_not_come_is_a_timeout(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume
) -> None:
    devcluster.sim.fault({"kind": "hang"}, query="Volume")
    began = monotonic()
    with pytest.raises(StorPoolTimeout, match="may have been done or not"):
        cluster.volume(volume.reference, Deadline.after(0.5))
    assert monotonic() - began < 5


def test_an_answer_that_drips_does_not_stretch_the_deadline(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume
) -> None:
    devcluster.sim.fault({"kind": "drip", "bytes_per_s": 20}, query="Volume")
    began = monotonic()
    with pytest.raises(StorPoolTimeout):
        cluster.volume(volume.reference, Deadline.after(0.7))
    assert 0.6 < monotonic() - began < 5


@pytest.mark.parametrize(
    "action",
    [
        pytest.param({"kind": "raw", "status": 502, "body": HTML, "content_type": "text/html"}, id="a proxy's page"),
        pytest.param({"kind": "raw", "status": 200, "body": HTML}, id="a page with status 200"),
        pytest.param({"kind": "raw", "status": 500, "body": ""}, id="500 and nothing"),
        pytest.param({"kind": "raw", "status": 200, "body": "{}"}, id="neither data nor error"),
        pytest.param({"kind": "raw", "status": 200, "body": '{"error": "text"}'}, id="an error that is a text"),
        pytest.param({"kind": "raw", "status": 200, "body": '{"data": [{"name": "x"}]}'}, id="fields are missing"),
        pytest.param({"kind": "raw", "status": 200, "body": '{"data": [], "gen'}, id="JSON that is cut off"),
    ],
)
def test_what_is_no_answer_of_storpool_is_asked_again(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume, action: dict[str, Any]
) -> None:
    devcluster.sim.fault(action, query="Volume")
    assert cluster.volume(volume.reference, soon()).global_id == volume.global_id
    devcluster.sim.fault(action, times=None, query="Volume")
    with pytest.raises(StorPoolBadAnswer) as caught:
        cluster.volume(volume.reference, Deadline.after(0.5))
    assert caught.value.facts["status"] == action["status"]
    assert str(caught.value.facts["body"])[:20] == action["body"][:20]


@pytest.mark.parametrize(
    "action",
    [
        pytest.param({"kind": "reset_before"}, id="reset before it was done"),
        pytest.param({"kind": "reset_after"}, id="reset after it was done"),
        pytest.param({"kind": "close_after"}, id="closed after it was done"),
        pytest.param({"kind": "truncate_body", "bytes": 5}, id="cut off"),
        pytest.param({"kind": "raw", "status": 502, "body": HTML, "processed": True}, id="a proxy's page"),
    ],
)
@pytest.mark.parametrize("name", [None, "vm-1"])
def test_a_lost_answer_makes_no_second_volume(
    cluster: Cluster, devcluster: DevclusterProcess, action: dict[str, Any], name: str | None
) -> None:
    devcluster.sim.fault(action, query="VolumeCreate")
    made = cluster.create_volume(NewVolume(MIB, "dev", name=name), "r1", soon())
    assert [each["globalId"] for each in devcluster.call("GET", "VolumesList")] == [made.global_id]


def test_a_lost_answer_and_a_lost_look_make_no_second_volume(cluster: Cluster, devcluster: DevclusterProcess) -> None:
    devcluster.sim.fault({"kind": "close_after"}, query="VolumeCreate")
    devcluster.sim.fault({"kind": "close_after"}, times=2, query="VolumesList")
    made = cluster.create_volume(NEW, "r1", soon())
    assert [each["globalId"] for each in devcluster.call("GET", "VolumesList")] == [made.global_id]


def test_a_create_without_an_answer_is_uncertain_and_found_by_the_next_run(
    cluster: Cluster, devcluster: DevclusterProcess
) -> None:
    devcluster.sim.fault({"kind": "hang", "processed": True}, query="VolumeCreate")
    with pytest.raises(StorPoolTimeout):
        cluster.create_volume(NEW, "r1", Deadline.after(0.5))
    again = cluster.create_volume(NEW, "r1", soon(), look_first=True)
    assert [each["globalId"] for each in devcluster.call("GET", "VolumesList")] == [again.global_id]


def test_a_create_that_nobody_can_look_for_is_uncertain(cluster: Cluster, devcluster: DevclusterProcess) -> None:
    transient = {"kind": "error", "name": "notReady", "transient": True}
    devcluster.sim.fault({"kind": "close_after"}, query="VolumeCreate")
    devcluster.sim.fault(transient, times=None, query="VolumesList")
    with pytest.raises(StorPoolTimeout, match="not known"):
        cluster.create_volume(NEW, "r1", Deadline.after(1))


def test_a_lost_answer_to_an_attach_or_a_delete_does_not_matter(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume
) -> None:
    devcluster.sim.fault({"kind": "close_after"}, query="VolumesReassignWait")
    cluster.attach(volume, "rw", "export", soon())
    devcluster.sim.fault({"kind": "reset_after"}, query="VolumesReassignWait")
    cluster.detach(volume, soon())
    devcluster.sim.fault({"kind": "reset_after"}, query="VolumeDelete")
    cluster.delete_volume(volume, soon())
    assert devcluster.call("GET", "VolumesList") == []


def test_a_wrong_token_is_said_and_not_shown(devcluster: DevclusterProcess) -> None:
    stranger = Cluster(devcluster.api, SecretStr("a-wrong-secret"), 1, Event())
    with capture_logs() as logs, pytest.raises(StorPoolUnauthorized) as caught:
        stranger.attachments(soon())
    assert "a-wrong-secret" not in f"{caught.value!r} {caught.value.facts} {logs} {stranger!r}"


@pytest.mark.parametrize("status", [401, 403])
def test_a_proxy_that_refuses_and_shows_the_request_is_unauthorized(
    cluster: Cluster, devcluster: DevclusterProcess, status: int
) -> None:
    page = f"<html>you sent {devcluster.token}</html>"
    devcluster.sim.fault({"kind": "raw", "status": status, "body": page}, query="AttachmentsList")
    with pytest.raises(StorPoolUnauthorized) as caught:
        cluster.attachments(soon())
    assert devcluster.token not in f"{caught.value!r} {caught.value.facts}"


def test_an_error_counts_with_status_200_too(cluster: Cluster, devcluster: DevclusterProcess, volume: Volume) -> None:
    devcluster.sim.fault({"kind": "error", "name": "odd", "descr": "so it is", "status": 200}, query="Volume")
    with pytest.raises(StorPoolRefused, match="odd: so it is") as caught:
        cluster.volume(volume.reference, soon())
    facts = caught.value.facts
    assert (facts["error"], facts["descr"], facts["query"]) == ("odd", "so it is", "MultiCluster/Volume")


@pytest.mark.parametrize("name", ["busy", "invalidParam"])
def test_a_device_that_is_held_for_a_moment_is_detached(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume, name: str
) -> None:
    cluster.attach(volume, "rw", "export", soon())
    devcluster.sim.fault({"kind": "busy", "name": name}, times=3, query="VolumesReassignWait")
    assert took_s(lambda: cluster.detach(volume, soon())) < 4


def test_a_device_that_stays_open_is_busy_after_5_seconds(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume
) -> None:
    cluster.attach(volume, "rw", "export", soon())
    devcluster.sim.fault({"kind": "busy"}, times=None, query="VolumesReassignWait")
    began = monotonic()
    with pytest.raises(VolumeBusy, match="is open at client 1") as caught:
        cluster.detach(volume, Deadline.after(30))
    assert 4 < monotonic() - began < 15
    assert caught.value.facts["client"] == 1
    sent = [str(request["body"]) for request in devcluster.sim.requests("VolumesReassignWait")]
    assert len(sent) > 10
    assert not any(re.search(r"force.{1,3}\s*true", body, re.IGNORECASE) for body in sent)


def test_a_client_that_is_down_is_said(cluster: Cluster, devcluster: DevclusterProcess, volume: Volume) -> None:
    devcluster.sim.client_down(1)
    with pytest.raises(StorPoolClientDown, match="storpool_block"):
        cluster.attach(volume, "rw", "export", Deadline.after(3))


def test_a_client_that_lags_is_waited_for(cluster: Cluster, devcluster: DevclusterProcess, volume: Volume) -> None:
    devcluster.sim.fault({"kind": "stale_generation", "seconds": 0.5}, query="VolumeUpdate", client=1)
    cluster.wait_for_client(soon())
    devcluster.sim.fault({"kind": "hang"}, query="ClientConfigWait")
    with pytest.raises(StorPoolTimeout):
        cluster.wait_for_client(Deadline.after(0.5))


def test_a_client_that_storpool_does_not_know_is_said(devcluster: DevclusterProcess, volume: Volume) -> None:
    stranger = Cluster(devcluster.api, SecretStr(devcluster.token), 99, Event())
    with pytest.raises(ClientNotRegistered, match="SP_OURID"):
        stranger.attach(volume, "rw", "export", soon())


def test_every_failure_is_one_of_ours(cluster: Cluster, devcluster: DevclusterProcess, volume: Volume) -> None:
    devcluster.sim.fault({"kind": "error", "name": "weird"}, times=None)
    for call in (
        lambda: cluster.volume(volume.reference, soon()),
        lambda: cluster.snapshot(volume.reference, soon()),
        lambda: cluster.attachments(soon()),
        lambda: cluster.attach(volume, "rw", "export", soon()),
        lambda: cluster.detach(volume, soon()),
        lambda: cluster.release([volume], soon()),
        lambda: cluster.create_volume(NEW, "r9", soon()),
        lambda: cluster.create_volume(NEW, "r9", soon(), look_first=True),
        lambda: cluster.update_volume(volume, VolumeChange(iops=1), soon()),
        lambda: cluster.take_snapshot(volume, NewSnapshot(), "r9", soon()),
        lambda: cluster.take_group_snapshot([volume], NewSnapshot(), "r9", soon()),
        lambda: cluster.take_group_snapshot([volume], NewSnapshot(), "r9", soon(), look_first=True),
        lambda: cluster.revert_volume(volume, volume, soon()),
        lambda: cluster.templates(soon()),
        lambda: cluster.services(soon()),
        lambda: cluster.delete_volume(volume, soon()),
        lambda: cluster.wait_for_client(soon()),
    ):
        with pytest.raises(AgentError) as caught:
            call()
        assert isinstance(caught.value, StorPoolRefused)
        assert caught.value.facts["error"] == "weird"
