# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Fencing: all or nothing before, confirmed afterwards."""

import pytest

from fake_host import FakeHost
from storpool_agent.errors import LibvirtTimeout
from storpool_commands.disks import AttachDisk
from storpool_commands.errors import ErrorCode
from storpool_commands.volumes import FenceVolumes


def fence(*volumes: object) -> FenceVolumes:
    return FenceVolumes(volumes=[str(each) for each in volumes], confirm_fenced=True, reason="host 2 is off")


def test_volumes_are_detached_everywhere_and_it_says_from_where(host: FakeHost) -> None:
    first, second = host.storpool.add(), host.storpool.add()
    host.storpool.attach_elsewhere(first, client=3)
    host.storpool.attach_elsewhere(first, client=2)
    fenced = host.succeed(fence(first.reference, second.reference))
    assert [(each.global_id, each.detached_from) for each in fenced.volumes] == [
        (first.global_id, [2, 3]),
        (second.global_id, []),
    ]
    assert host.storpool.attached == {}


def test_two_names_of_a_volume_are_one(host: FakeHost) -> None:
    volume = host.storpool.add(name="disk")
    assert len(host.succeed(fence("disk", volume.reference)).volumes) == 1


def test_a_volume_that_is_not_there_keeps_the_others_attached(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=2)
    failure = host.fail(fence(volume.reference, "~d.n.zz"))
    assert (failure.code, failure.side_effects) == (ErrorCode.VOLUME_NOT_FOUND, "none")
    assert (volume.global_id, 2) in host.storpool.attached


def test_a_machine_that_runs_here_is_not_fenced_from_here(host: FakeHost) -> None:
    volume, other, machine = host.storpool.add(), host.storpool.add(), host.machine()
    host.storpool.attach_elsewhere(other, client=2)
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    failure = host.fail(fence(other.reference, volume.reference))
    assert (failure.code, failure.facts["vms"]) == (ErrorCode.DISK_IN_USE_BY_VM, [machine.uuid])
    assert len(host.storpool.attached) == 2


def test_nothing_is_fenced_while_libvirt_is_silent(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=2)
    host.domains.fail("having", LibvirtTimeout("silent"))
    assert host.fail(fence(volume.reference)).code is ErrorCode.LIBVIRT_TIMEOUT
    assert len(host.storpool.attached) == 1


def test_what_is_still_attached_afterwards_is_a_failure(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may start the machine elsewhere on the word of an answer alone."""
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=2)
    monkeypatch.setattr(host.storpool, "release", lambda *_args, **_options: None)
    failure = host.fail(fence(volume.reference))
    assert (failure.code, failure.side_effects) == (ErrorCode.FENCE_INCOMPLETE, "partial")
    assert (failure.facts["volumes"], failure.facts["clients"]) == ([volume.global_id], ["2"])
