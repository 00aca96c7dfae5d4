# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a command's turn is taken for: the same object by any spelling."""

import pytest
from pydantic import SecretStr

from fake_host import FakeHost
from storpool_agent.errors import StorPoolUnavailable
from storpool_agent.journal.journal import Journal
from storpool_agent.objects import named, resolve
from storpool_commands.control import Ping
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DisconnectPhysicalDiskByPath,
    StorpoolResize,
)
from storpool_commands.snapshots import DeleteSnapshot, RevertSnapshot, TakeSnapshot
from storpool_commands.tags import StorPoolCreateTags
from storpool_commands.vm_snapshots import DeleteVmSnapshot, RevertVmSnapshot, TakeVmSnapshot, VolumeAndSnapshot
from storpool_commands.volumes import CreateVolume, CreateVolumeFromSnapshot, DeleteVolume, FenceVolumes

VM = "9a1c1f0e-6f5c-4d3b-9d5a-0c7f5f6b8a11"


@pytest.fixture
def fakes(journal: Journal) -> FakeHost:
    return FakeHost(journal)


def keys(command: object, fakes: FakeHost) -> frozenset[str]:
    return resolve(named(command), fakes.host)


@pytest.mark.parametrize(
    "command",
    [
        ConnectPhysicalDisk(volume="~a.b.c"),
        ConnectPhysicalDisk(volume="/dev/storpool-byid/a.b.c"),
        DisconnectPhysicalDiskByPath(path="/dev/storpool-byid/a.b.c"),
        StorpoolResize(volume="~a.b.c", new_size_bytes=512),
        DeleteVolume(volume="~a.b.c"),
        ConnectPhysicalDisk(snapshot="~a.b.c"),
    ],
)
def test_a_global_id_needs_no_look(command: object, fakes: FakeHost) -> None:
    assert named(command).by_name == frozenset()
    assert keys(command, fakes) == {"volume:a.b.c"}


def test_a_machine_by_uuid_needs_no_look_however_it_is_spelt(fakes: FakeHost) -> None:
    for spelling in (VM, VM.upper()):
        command = AttachDisk(vm=spelling, volume="~a.b.c")
        assert named(command).by_name == frozenset()
        assert keys(command, fakes) == {"volume:a.b.c", f"vm:{VM}"}


def test_a_name_is_a_key_of_its_own_until_it_is_resolved() -> None:
    command = AttachDisk(vm="vm-1", volume="/dev/storpool/disk-1")
    assert named(command).by_name == {"name:disk-1", "vm-name:vm-1"}
    assert named(ConnectPhysicalDisk(volume="disk-1")).by_name == {"name:disk-1"}


def test_a_name_and_its_global_id_are_one_lock(fakes: FakeHost) -> None:
    made = fakes.succeed(CreateVolume(size_bytes=512, template="dev", name="disk-1"))
    machine = fakes.machine()
    by_name = AttachDisk(vm=machine.name, volume="disk-1")
    by_id = AttachDisk(vm=machine.uuid, volume=f"~{made.global_id}")
    assert keys(by_name, fakes) == keys(by_id, fakes) == {f"volume:{made.global_id}", f"vm:{machine.uuid}"}


def test_what_is_not_found_has_no_key(fakes: FakeHost) -> None:
    assert keys(ConnectPhysicalDisk(volume="nothing"), fakes) == frozenset()


@pytest.mark.parametrize("command", [Ping(), CreateVolume(size_bytes=512, template="dev")])
def test_a_command_about_nothing_present_waits_for_nobody(command: object, fakes: FakeHost) -> None:
    assert named(command).by_name == frozenset()
    assert keys(command, fakes) == frozenset()


@pytest.mark.parametrize(
    "command",
    [
        TakeVmSnapshot(volumes=["~a.b.c", "~a.b.d"]),
        DeleteVmSnapshot(snapshots=["~a.b.c", "~a.b.d"]),
        RevertVmSnapshot(disks=[VolumeAndSnapshot(volume="~a.b.c", snapshot="~a.b.d")]),
        RevertSnapshot(volume="~a.b.c", snapshot="~a.b.d"),
        StorPoolCreateTags(volumes=["~a.b.c", "~a.b.d"], set={"vc-policy": "daily"}),
        FenceVolumes(volumes=["~a.b.c", "~a.b.d"], confirm_fenced=True, reason="it burns"),
    ],
)
def test_a_command_waits_for_each_of_its_objects(command: object, fakes: FakeHost) -> None:
    assert named(command).by_name == frozenset()
    assert keys(command, fakes) == {"volume:a.b.c", "volume:a.b.d"}


def test_each_disk_of_a_pair_is_looked_up_as_what_it_is(fakes: FakeHost) -> None:
    volume = fakes.storpool.add(name="disk-1")
    snapshot = fakes.storpool.add(name="before", snapshot=True)
    command = RevertVmSnapshot(disks=[VolumeAndSnapshot(volume="disk-1", snapshot="before")])
    assert named(command).by_name == {"name:disk-1", "name:before"}
    assert keys(command, fakes) == {f"volume:{volume.global_id}", f"volume:{snapshot.global_id}"}
    swapped = RevertVmSnapshot(disks=[VolumeAndSnapshot(volume="before", snapshot="disk-1")])
    assert keys(swapped, fakes) == frozenset()


@pytest.mark.parametrize(
    "command",
    [
        CreateVolume(size_bytes=512, template="dev", name="new"),
        CreateVolumeFromSnapshot(snapshot="~a.b.c", template="dev", name="new"),
        TakeSnapshot(volume="~a.b.c", name="new"),
        DeleteVolume(volume="new"),
        DeleteSnapshot(snapshot="new"),
    ],
)
def test_a_name_that_is_to_be_given_is_waited_for_as_one_that_is_there(command: object) -> None:
    assert named(command).by_name == {"name:new"}


def test_a_name_is_looked_up_in_the_pool_of_its_command(fakes: FakeHost) -> None:
    url = SecretStr("storpool://token@10.0.0.1:81/dev")
    fakes.pools.keep(fakes.pools.open("far", url, None))
    far = fakes.pools.apis["10.0.0.1:81"]
    far.add()
    there, here = far.add(name="disk-1"), fakes.storpool.add(name="disk-1")
    assert there.global_id != here.global_id
    assert keys(DeleteVolume(volume="disk-1", pool="far"), fakes) == {f"volume:{there.global_id}"}
    assert keys(DeleteVolume(volume="disk-1"), fakes) == {f"volume:{here.global_id}"}


def test_a_pool_that_is_not_known_has_no_objects(fakes: FakeHost) -> None:
    assert keys(DeleteVolume(volume="disk-1", pool="nope"), fakes) == frozenset()
    assert keys(DeleteVolume(volume="~a.b.c", pool="nope"), fakes) == {"volume:a.b.c"}


def test_a_look_up_that_fails_is_not_taken_for_nothing_there(fakes: FakeHost) -> None:
    fakes.storpool.failures["volume"] = [StorPoolUnavailable("it is not there")]
    with pytest.raises(StorPoolUnavailable):
        keys(DeleteVolume(volume="disk-1"), fakes)
