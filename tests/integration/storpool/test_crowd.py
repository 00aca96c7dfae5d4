# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Many callers at once."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep

from devcluster_process import DevclusterProcess
from storpool_agent.deadline import Deadline
from storpool_agent.devices.tree import LONGEST_LOOK_S, DeviceTree
from storpool_agent.errors import VolumeNotFound
from storpool_agent.storpool.cluster import Cluster
from storpool_agent.storpool.model import NewVolume, Volume
from storpool_commands.disks import Mode

MIB = 1 << 20
MODES: tuple[Mode, Mode] = ("rw", "ro")


def soon() -> Deadline:
    return Deadline.after(20)


def at_once(count: int, call: Callable[[int], object]) -> "list[Future[object]]":
    with ThreadPoolExecutor(count) as pool:
        return [pool.submit(call, number) for number in range(count)]


def volumes(cluster: Cluster, count: int) -> list[Volume]:
    return [cluster.create_volume(NewVolume(MIB, "dev"), f"r{number}", soon()) for number in range(count)]


def test_attaches_that_overlap_are_few_requests(cluster: Cluster, devcluster: DevclusterProcess) -> None:
    wanted = volumes(cluster, 100)
    done = at_once(100, lambda number: cluster.attach(wanted[number], "rw", "export", soon()))
    assert [each.exception() for each in done] == [None] * 100
    assert len(cluster.attachments(soon())) == 100
    assert len(devcluster.sim.requests("VolumesReassignWait")) < 30


def test_one_bad_volume_among_100_fails_alone(cluster: Cluster, devcluster: DevclusterProcess) -> None:
    wanted = volumes(cluster, 100)
    devcluster.call("POST", f"VolumeDelete/{wanted[50].reference}")
    done = at_once(100, lambda number: cluster.attach(wanted[number], "rw", "export", soon()))
    failed = {number: each.exception() for number, each in enumerate(done) if each.exception()}
    assert list(failed) == [50]
    assert isinstance(failed[50], VolumeNotFound)
    assert failed[50].facts["volume"] == str(wanted[50].reference)
    assert len(cluster.attachments(soon())) == 99


def test_a_volume_wanted_in_two_ways_at_once_ends_up_in_one(cluster: Cluster, devcluster: DevclusterProcess) -> None:
    slow, volume = volumes(cluster, 2)
    devcluster.sim.fault({"kind": "delay", "seconds": 0.3}, query="VolumesReassignWait", body_re=slow.global_id)
    with ThreadPoolExecutor(5) as pool:
        pool.submit(cluster.attach, slow, "rw", "export", soon())
        sleep(0.1)
        both = [pool.submit(cluster.attach, volume, mode, "export", soon()) for mode in MODES]
        assert [each.result() for each in both] == [None, None]
    assert [each.global_id for each in cluster.attachments(soon())].count(volume.global_id) == 1


def test_each_of_100_attaches_in_a_row_is_ready_at_once(
    cluster: Cluster, devcluster: DevclusterProcess, device_root: Path
) -> None:
    """Node names, numbers and links are used again; udev's workers are still at the device of before."""
    (volume,) = volumes(cluster, 1)
    devices = DeviceTree(device_root)
    devices.start()
    try:
        waits_s = [attach_and_detach(cluster, devices, volume) for _ in range(100)]
    finally:
        devices.stop()
    assert sorted(waits_s)[90] < LONGEST_LOOK_S


def attach_and_detach(cluster: Cluster, devices: DeviceTree, volume: Volume) -> float:
    """The seconds from the API's answer to the proven device."""
    cluster.attach(volume, "rw", "export", soon())
    began = monotonic()
    device = devices.wait_ready(volume.global_id, volume.size_bytes, "rw", soon())
    waited_s = monotonic() - began
    cluster.detach(volume, soon())
    devices.wait_gone(volume.global_id, device, soon())
    return waited_s


def test_a_slow_attach_does_not_hold_up_the_others(cluster: Cluster, devcluster: DevclusterProcess) -> None:
    slow, *others = volumes(cluster, 5)
    devcluster.sim.fault({"kind": "delay", "seconds": 3.0}, query="VolumesReassignWait", body_re=slow.global_id)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(cluster.attach, slow, "rw", "export", soon())
        sleep(0.1)
        rest = [pool.submit(cluster.attach, each, "rw", "export", soon()) for each in others]
        assert [each.result() for each in rest] == [None] * 4
        assert not first.done()
        first.result()


def test_a_list_that_is_shared_is_no_older_than_the_call(cluster: Cluster, devcluster: DevclusterProcess) -> None:
    """One request is in flight and has been processed when the volume is attached: its answer is not good enough."""
    (volume,) = volumes(cluster, 1)
    devcluster.sim.fault({"kind": "drip", "bytes_per_s": 400}, query="AttachmentsList")
    with ThreadPoolExecutor(20) as pool:
        early = pool.submit(cluster.attachments, soon())
        sleep(0.1)
        cluster.attach(volume, "rw", "export", soon())
        late = [pool.submit(cluster.attachments, soon()) for _ in range(19)]
        assert [len(each.result()) for each in late] == [1] * 19
        assert len(early.result()) == 0
    assert len(devcluster.sim.requests("AttachmentsList")) <= 4
