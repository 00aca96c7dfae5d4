# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a command's turn is taken for: the same object by any spelling."""

import pytest

from fake_host import FakeHost
from storpool_agent.host import Host
from storpool_agent.journal.journal import Journal
from storpool_agent.objects import Named, named, resolve
from storpool_commands.control import Ping
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DisconnectPhysicalDiskByPath,
    StorpoolResize,
)
from storpool_commands.volumes import CreateVolume, DeleteVolume

VM = "9a1c1f0e-6f5c-4d3b-9d5a-0c7f5f6b8a11"


@pytest.fixture
def fakes(journal: Journal) -> FakeHost:
    return FakeHost(journal)


def keys(command: object, fakes: FakeHost) -> frozenset[str]:
    return resolve(named(command), Host("kvm1", fakes.storpool, fakes.devices, fakes.domains))


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


@pytest.mark.parametrize("command", [Ping(), CreateVolume(size_bytes=512, template="dev", name="disk-1")])
def test_a_command_about_nothing_present_waits_for_nobody(command: object, fakes: FakeHost) -> None:
    assert named(command) == Named(None, False, None)
    assert keys(command, fakes) == frozenset()
