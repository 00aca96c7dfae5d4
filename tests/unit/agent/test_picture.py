# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is gathered for a look at the host, and under which names."""

import pytest

from fake_host import FakeHost
from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.domains.model import Disk
from storpool_agent.errors import DeviceMismatch, LibvirtUnavailable
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.unplugs import PendingUnplug
from storpool_agent.picture import Picture, take
from storpool_agent.storpool.model import Volume


@pytest.fixture
def host(journal: Journal) -> FakeHost:
    return FakeHost(journal)


def look(host: FakeHost) -> Picture:
    return take(host.host, host.journal, Deadline.after(5))


def plugged(host: FakeHost, path: str) -> str:
    """A machine that has the path as a disk; its UUID."""
    disk = Disk(path, "s", "ua-1", "virtio", "rw", "none", None, "unmap", live=True, config=True)
    return host.machine(live={"vdb": disk}, config={"vdb": disk}).uuid


def attached(host: FakeHost, volume: Volume) -> str:
    host.storpool.attach_elsewhere(volume, client=1)
    return volume.global_id


def test_an_empty_host_is_an_empty_picture(host: FakeHost) -> None:
    assert look(host) == Picture(1, (), {}, [], [], host="kvm1")


def test_attachments_links_and_machines_meet_by_global_id(host: FakeHost) -> None:
    global_id = attached(host, host.storpool.add())
    elsewhere = host.storpool.add()
    host.storpool.attach_elsewhere(elsewhere, client=2)
    vm = plugged(host, host.devices.link(global_id))
    host.journal.unplugs.expect(PendingUnplug("d.n.b", "vm", "request"))
    seen = look(host)
    assert [one.global_id for one in seen.here] == [global_id]
    assert (seen.path(global_id), seen.path(elsewhere.global_id)) == (host.devices.link(global_id), None)
    assert (seen.machines(global_id), seen.machines(elsewhere.global_id)) == ([vm], [])
    assert list(seen.links) == [global_id]
    assert seen.unplugs == [PendingUnplug("d.n.b", "vm", "request")]


def test_a_link_that_is_not_there_is_told_with_where_it_should_be(host: FakeHost) -> None:
    global_id = attached(host, host.storpool.add())
    host.devices.asleep = True
    seen = look(host)
    assert seen.path(global_id) is None
    assert (seen.links[global_id].path, seen.links[global_id].device) == (host.devices.link(global_id), None)


def test_a_link_that_leads_to_something_else_leads_to_no_device(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    global_id = attached(host, host.storpool.add())
    linked = host.devices.linked()

    def odd(_global_id: str) -> Device | None:
        raise DeviceMismatch("leads elsewhere")

    monkeypatch.setattr(host.devices, "linked", lambda: linked)
    monkeypatch.setattr(host.devices, "look", odd)
    seen = look(host)
    assert (seen.links[global_id].there, seen.links[global_id].device) == (True, None)
    assert seen.path(global_id) == host.devices.link(global_id)


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_disk_by_name_is_looked_up(host: FakeHost, snapshot: bool) -> None:
    volume = host.storpool.add(name="disk-1", snapshot=snapshot)
    by_name = next(path for path in host.devices.links(volume.global_id, "disk-1") if path.endswith("/disk-1"))
    vm = plugged(host, by_name)
    assert look(host).machines(volume.global_id) == [vm]


def test_a_disk_by_tilde_and_global_id_needs_no_look_up(host: FakeHost) -> None:
    directory = host.devices.links("d.n.zz", "x")[-1].rpartition("/")[0]
    vm = plugged(host, f"{directory}/~d.n.zz")
    assert look(host).machines("d.n.zz") == [vm]
    assert "volume" not in host.storpool.calls


def test_a_disk_by_a_name_that_is_gone_has_no_global_id(host: FakeHost) -> None:
    directory = host.devices.links("d.n.zz", "x")[-1].rpartition("/")[0]
    plugged(host, f"{directory}/gone")
    assert [one.global_id for one in look(host).disks] == [None]


def test_half_a_picture_is_none(host: FakeHost) -> None:
    host.domains.fail("below", LibvirtUnavailable("down"))
    with pytest.raises(LibvirtUnavailable):
        look(host)
