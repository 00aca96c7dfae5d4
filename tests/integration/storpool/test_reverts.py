# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A revert is repeated only while nobody can have written."""

from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Any

import pytest

from devcluster_process import DevclusterProcess
from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolClientDown, StorPoolTimeout, VolumeBusy
from storpool_agent.storpool.cluster import Cluster
from storpool_agent.storpool.model import NewSnapshot, NewVolume, Volume

MIB = 1 << 20
TIMEOUT = '{"error": {"name": "timeout", "descr": "Timed out waiting for clients"}}'


def soon() -> Deadline:
    return Deadline.after(10)


@pytest.fixture
def volume(cluster: Cluster) -> Volume:
    return cluster.create_volume(NewVolume(MIB, "dev"), "r0", soon())


@pytest.fixture
def snapshot(cluster: Cluster, volume: Volume) -> Volume:
    return cluster.take_snapshot(volume, NewSnapshot(), "r1", soon())


@pytest.mark.parametrize(
    "lost",
    [
        {"kind": "reset_before"},
        {"kind": "close_after"},
        {"kind": "truncate_body", "bytes": 5},
        {"kind": "error", "name": "notReady", "transient": True},
    ],
    ids=["reset before it was done", "closed after it was done", "cut off", "not now"],
)
def test_one_whose_answer_was_lost_is_sent_again(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume, snapshot: Volume, lost: dict[str, Any]
) -> None:
    devcluster.sim.fault(lost, query="VolumeRevert")
    cluster.revert_volume(volume, snapshot, soon())
    assert len(devcluster.sim.requests("VolumeRevert")) == 2


def test_it_is_not_sent_again_when_somebody_has_the_volume_by_then(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume, snapshot: Volume
) -> None:
    devcluster.sim.fault({"kind": "close_after"}, query="VolumeRevert")
    devcluster.sim.fault({"kind": "delay", "seconds": 1.5}, query="AttachmentsList", skip=1)
    with ThreadPoolExecutor(1) as thread:
        reverted = thread.submit(cluster.revert_volume, volume, snapshot, soon())
        give_up = monotonic() + 10
        while not devcluster.sim.requests("VolumeRevert"):
            assert monotonic() < give_up
            sleep(0.01)
        devcluster.attach(volume.global_id, client=2)
        with pytest.raises(StorPoolTimeout, match="not reverted again") as caught:
            reverted.result()
    assert caught.value.facts["client"] == 2
    assert len(devcluster.sim.requests("VolumeRevert")) == 1


def test_one_that_nobody_can_ask_about_is_not_known(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume, snapshot: Volume
) -> None:
    transient = {"kind": "error", "name": "notReady", "transient": True}
    devcluster.sim.fault({"kind": "close_after"}, query="VolumeRevert")
    devcluster.sim.fault(transient, query="AttachmentsList", skip=1, times=None)
    with pytest.raises(StorPoolTimeout, match="not known"):
        cluster.revert_volume(volume, snapshot, Deadline.after(1))


def test_a_storpool_that_refuses_is_believed(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume, snapshot: Volume
) -> None:
    devcluster.sim.fault({"kind": "busy", "client": 7}, query="VolumeRevert")
    with pytest.raises(VolumeBusy) as caught:
        cluster.revert_volume(volume, snapshot, soon())
    assert caught.value.facts["client"] == 7


def test_a_host_that_is_gone_does_not_keep_its_volumes(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume
) -> None:
    devcluster.attach(volume.global_id, client=2)
    silent = {"kind": "raw", "status": 500, "body": TIMEOUT, "processed": True}
    devcluster.sim.fault(silent, query="VolumesReassignWait")
    cluster.release([volume], soon(), force=True)
    assert cluster.attachments(soon()) == ()


@pytest.mark.parametrize("force", [True, False])
def test_a_host_that_keeps_its_volumes_is_said(
    cluster: Cluster, devcluster: DevclusterProcess, volume: Volume, force: bool
) -> None:
    devcluster.attach(volume.global_id, client=2)
    devcluster.sim.fault({"kind": "raw", "status": 500, "body": TIMEOUT}, query="VolumesReassignWait")
    with pytest.raises(StorPoolClientDown):
        cluster.release([volume], soon(), force=force)
    assert len(cluster.attachments(soon())) == 1
