# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is gathered about one volume, from whom, and that one who is silent does not silence the others."""

import json
from collections.abc import Sequence
from uuid import uuid4

import pytest

from fake_host import FakeHost
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Disk
from storpool_agent.errors import LibvirtUnavailable, StorPoolUnavailable
from storpool_agent.explanation import Explanation
from storpool_agent.job import JobView
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.journal.overview import Overview
from storpool_agent.journal.temporaries import USE, Temporary
from storpool_agent.journal.unplugs import PendingUnplug
from storpool_agent.storpool.model import VolumeChange
from storpool_commands.disks import Holder
from storpool_commands.explaining import ExplainedVolume


@pytest.fixture
def host(journal: Journal) -> FakeHost:
    return FakeHost(journal)


def explain(host: FakeHost, text: str, jobs: Sequence[JobView] = ()) -> ExplainedVolume:
    overview = Overview(host.journal._database)
    return Explanation(host.host, host.journal, overview, jobs, Deadline.after(5)).of(text)


def accepted(host: FakeHost, command: str, **fields: object) -> str:
    request_id = str(uuid4())
    body = json.dumps({"id": request_id, "protocol": 1, "body": {"command": command, **fields}}).encode()
    host.journal.accept([Arrival(request_id, command, body, None, None)])
    return request_id


def plugged(host: FakeHost, path: str) -> str:
    disk = Disk(path, "s", "ua-1", "virtio", "rw", "none", None, "unmap", live=True, config=True)
    return host.machine(live={"vdb": disk}, config={"vdb": disk}).uuid


def test_every_side_says_what_it_knows(host: FakeHost) -> None:
    volume = host.storpool.add(name="disk-1")
    host.storpool.attach_elsewhere(volume, client=1)
    host.storpool.attach_elsewhere(volume, client=2, mode="ro")
    host.storpool.openers[volume.global_id] = [Holder(kind="process", name="dd", pid=7)]
    vm = plugged(host, host.devices.link(volume.global_id))
    host.journal.raise_fence(volume.global_id, 7)
    host.journal.unplugs.expect(PendingUnplug(volume.global_id, vm, "r1"))
    host.journal.temporaries.add(Temporary("r2", USE, volume.global_id))
    seen = explain(host, "disk-1")
    assert (seen.global_id, seen.client, seen.generation, seen.not_known) == (volume.global_id, 1, 7, [])
    assert {(one.client, one.mode) for one in seen.attachments} == {(1, "rw"), (2, "ro")}
    assert seen.device is not None
    assert seen.device.link == seen.link == host.devices.link(volume.global_id)
    assert [(one.name, one.pid) for one in seen.holders] == [("dd", 7)]
    assert [(one.vm, one.target, one.live) for one in seen.disks] == [(vm, "vdb", True)]
    assert seen.pending_unplug is not None
    assert (seen.pending_unplug.vm, seen.pending_unplug.request) == (vm, "r1")
    assert [(one.kind, one.target) for one in seen.temporaries] == [(USE, "r2")]


@pytest.mark.parametrize("spelling", ["disk-1", "~{}", "/dev/storpool/disk-1", "/dev/storpool-byid/{}"])
def test_every_spelling_is_the_same_volume(host: FakeHost, spelling: str) -> None:
    volume = host.storpool.add(name="disk-1")
    assert explain(host, spelling.format(volume.global_id)).global_id == volume.global_id


def test_a_snapshot_is_one(host: FakeHost) -> None:
    snapshot = host.storpool.add(snapshot=True)
    seen = explain(host, f"~{snapshot.global_id}")
    assert seen.volume is not None
    assert seen.volume.snapshot


def test_requests_are_found_by_whatever_name_they_use(host: FakeHost) -> None:
    volume, other = host.storpool.add(name="disk-1"), host.storpool.add(name="disk-10")
    by_name = accepted(host, "attachDisk", vm="v", volume="disk-1")
    by_id = accepted(host, "detachDisk", vm="v", volume=f"~{volume.global_id}")
    by_path = accepted(host, "disconnectPhysicalDiskByPath", path=f"/dev/storpool-byid/{volume.global_id}")
    listed = accepted(host, "fenceVolumes", volumes=["disk-1", "disk-10"])
    accepted(host, "attachDisk", vm="disk-1", volume=f"~{other.global_id}")
    accepted(host, "attachDisk", vm="v", volume="disk-10")
    seen = explain(host, f"~{volume.global_id}")
    assert [str(one.id) for one in seen.jobs] == [by_name, by_id, by_path, listed]
    assert {one.state for one in seen.jobs} == {"queued"}
    host.journal.finish(by_id, b'{"status": "failure", "code": "unplug-pending"}')
    seen = explain(host, "disk-1")
    assert [str(one.id) for one in seen.jobs] == [by_name, by_path, listed]
    assert [(str(one.id), one.outcome, one.code) for one in seen.recent] == [(by_id, "failure", "unplug-pending")]


def test_a_running_request_is_found_by_what_it_has(host: FakeHost) -> None:
    """It names a machine, say, and works on this disk of it."""
    volume = host.storpool.add()
    running = accepted(host, "takeVMSnapshot", vm="v")
    key = f"volume:{volume.global_id}"
    view = JobView(running, frozenset({key}), frozenset(), running=True, step="freeze", waits_for=())
    (job,) = explain(host, f"~{volume.global_id}", [view]).jobs
    assert (str(job.id), job.state, job.step) == (running, "running", "freeze")


def test_a_silent_storpool_does_not_hide_what_the_host_knows(host: FakeHost) -> None:
    volume = host.storpool.add(name="disk-1")
    host.storpool.attach_elsewhere(volume, client=1)
    vm = plugged(host, host.devices.link(volume.global_id))
    host.storpool.failures["volume"] = [StorPoolUnavailable("it is down")]
    seen = explain(host, "/dev/storpool/disk-1")
    assert (seen.global_id, seen.volume, seen.not_known) == (volume.global_id, None, ["StorPool: it is down"])
    assert [one.vm for one in seen.disks] == [vm]
    assert "Machine vm-0 runs with it as vdb." in seen.summary


def test_a_silent_libvirt_is_named(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=1)
    host.domains.fail("having", LibvirtUnavailable("it is down"))
    seen = explain(host, f"~{volume.global_id}")
    assert (seen.not_known, len(seen.attachments)) == (["libvirt: it is down"], 1)
    assert not [one for one in seen.advice if "disconnect" in one], "a machine may have it"


def test_the_tags_of_the_agent_are_read(host: FakeHost) -> None:
    volume = host.storpool.add()
    change = VolumeChange(tags={"sp-writing": "r1", "sp-op": "r2", "cvm": "v"})
    host.storpool.update_volume(volume, change, Deadline.after(5))
    seen = explain(host, f"~{volume.global_id}")
    assert (seen.writing, seen.operation) == ("r1", "r2")


def test_what_is_not_there_is_told_as_that(host: FakeHost) -> None:
    seen = explain(host, "nothing-1")
    assert (seen.global_id, seen.volume, seen.attachments) == (None, None, [])
    assert seen.summary == "StorPool has no volume or snapshot nothing-1."
