# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands that are well said and cannot be done: volumes and machines that are not what the sender believes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from guest import Disk, Hardware, Machine, SilentGuest
from integration.agent.refusals import Scene, nothing_changes, refused
from storpool_commands.errors import ErrorCode

MIB = 1 << 20
NOBODY = "~no.such.volume"


@pytest.mark.parametrize("spelling", [NOBODY, "/dev/storpool/vm-none", "vm-none"])
def test_a_volume_that_does_not_exist_is_not_connected(scene: Scene, spelling: str) -> None:
    with nothing_changes(scene.stack):
        reply = scene.send({"command": "connectPhysicalDisk", "volume": spelling})
    named = spelling.removeprefix("/dev/storpool/")
    refused(reply, ErrorCode.VOLUME_NOT_FOUND, says=(named,), facts={"volume": named})


@pytest.mark.parametrize(
    "command",
    [
        {"command": "attachDisk", "vm": "vm-none", "volume": NOBODY},
        {"command": "StorpoolResizeCmd", "volume": NOBODY, "newSizeBytes": MIB},
        {"command": "getPhysicalDisk", "volume": NOBODY},
    ],
    ids=lambda command: command["command"],
)
def test_a_volume_that_does_not_exist_is_named(scene: Scene, command: dict[str, Any]) -> None:
    with nothing_changes(scene.stack):
        reply = scene.send(command)
    refused(reply, ErrorCode.VOLUME_NOT_FOUND, says=(NOBODY,), facts={"volume": NOBODY})


def test_a_template_that_does_not_exist_is_named(scene: Scene) -> None:
    with nothing_changes(scene.stack, undone=True):
        reply = scene.send({"command": "createVolume", "sizeBytes": MIB, "template": "gold"})
    refused(reply, ErrorCode.TEMPLATE_NOT_FOUND, says=("gold",), facts={"template": "gold"})


def test_a_volume_that_another_client_writes_to_is_left_to_it(scene: Scene, volume: str) -> None:
    scene.stack.storpool.attach(volume[1:], client=2)
    with nothing_changes(scene.stack):
        reply = scene.send({"command": "connectPhysicalDisk", "volume": volume})
    facts = {"volume": volume[1:], "clients": ["2"]}
    refused(reply, ErrorCode.ATTACHED_ELSEWHERE, says=(volume[1:], "client 2", "detach it there first"), facts=facts)


def test_a_volume_that_another_client_writes_to_is_given_to_no_machine(scene: Scene, volume: str) -> None:
    scene.stack.storpool.attach(volume[1:], client=2)
    with SilentGuest() as machine, nothing_changes(scene.stack):
        reply = scene.send({"command": "attachDisk", "vm": machine.uuid, "volume": volume})
        assert machine.disk_sources() == {}
    refused(reply, ErrorCode.ATTACHED_ELSEWHERE, says=(volume[1:], "client 2"), facts={"clients": ["2"]})


def test_a_volume_is_not_made_smaller_by_a_resize(scene: Scene, volume: str) -> None:
    with nothing_changes(scene.stack):
        reply = scene.send({"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": MIB})
    facts = {"volume": volume[1:], "size_bytes": 16 * MIB}
    refused(reply, ErrorCode.WOULD_SHRINK, says=(volume[1:], str(16 * MIB), "shrinkOk"), facts=facts)


def test_a_volume_of_another_size_than_expected_is_not_resized(scene: Scene, volume: str) -> None:
    command = {"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": 32 * MIB, "expectedSizeBytes": MIB}
    with nothing_changes(scene.stack):
        reply = scene.send(command)
    facts = {"volume": volume[1:], "size_bytes": 16 * MIB}
    refused(reply, ErrorCode.SIZE_CHANGED, says=(volume[1:], str(MIB), "look at it"), facts=facts)


@pytest.mark.parametrize("vm", ["vm-none", "0b9c9b52-7d34-4b52-9a0e-5a1f2f0f8a11"])
def test_a_machine_that_does_not_exist_gets_no_disk(scene: Scene, volume: str, vm: str) -> None:
    with nothing_changes(scene.stack):
        reply = scene.send({"command": "attachDisk", "vm": vm, "volume": volume})
    refused(reply, ErrorCode.VM_NOT_FOUND, says=(vm,), facts={"vm": vm})


def test_a_machine_that_is_off_gets_no_disk_when_it_must_run(scene: Scene, volume: str) -> None:
    with _stopped() as machine, nothing_changes(scene.stack):
        reply = scene.send({"command": "attachDisk", "vm": machine.name, "volume": volume, "requireRunning": True})
        assert machine.disk_sources(inactive=True) == {}
    refused(reply, ErrorCode.VM_NOT_RUNNING, says=(machine.name, "start it"), facts={"vm": machine.uuid})


def test_a_transient_machine_that_is_off_does_not_exist(scene: Scene, volume: str) -> None:
    with SilentGuest() as machine, nothing_changes(scene.stack):
        machine.domain.destroy()
        reply = scene.send({"command": "attachDisk", "vm": machine.uuid, "volume": volume})
    refused(reply, ErrorCode.VM_NOT_FOUND, says=(machine.uuid,), facts={"vm": machine.uuid})


def test_a_target_that_is_taken_is_not_used(scene: Scene, volume: str) -> None:
    other = scene.stack.create()
    with (
        _connected(scene, other) as path,
        SilentGuest([Disk(path, "vdb")]) as machine,
        nothing_changes(scene.stack, undone=True),
    ):
        reply = scene.send({"command": "attachDisk", "vm": machine.uuid, "volume": volume, "target": "vdb"})
        assert list(machine.disk_sources()) == ["vdb"]
    refused(reply, ErrorCode.TARGET_TAKEN, says=(machine.name, "vdb"), facts={"vm": machine.uuid, "target": "vdb"})
    _undone(reply)


def test_a_machine_without_a_free_slot_gets_no_disk(scene: Scene, volume: str) -> None:
    last = scene.stack.create()
    with SilentGuest(hardware=Hardware(spare_ports=0)) as machine:
        taken = scene.send({"command": "attachDisk", "vm": machine.uuid, "volume": last})
        assert taken["status"] == "success"
        with nothing_changes(scene.stack, undone=True):
            reply = scene.send({"command": "attachDisk", "vm": machine.uuid, "volume": volume})
            assert machine.disk_sources() == {"vda": scene.stack.link(last)}
    scene.stack.storpool.detach(last[1:])
    refused(reply, ErrorCode.NO_HOTPLUG_SLOT, says=("PCI",), facts={"vm": machine.uuid})
    _undone(reply)


def test_a_disk_of_another_machine_stays_there(scene: Scene, volume: str) -> None:
    with (
        _connected(scene, volume) as path,
        SilentGuest([Disk(path, "vda")]) as owner,
        SilentGuest() as machine,
        nothing_changes(scene.stack),
    ):
        reply = scene.send({"command": "attachDisk", "vm": machine.uuid, "volume": volume})
        assert machine.disk_sources() == {}
        assert owner.disk_sources() == {"vda": path}
    facts = {"volume": volume[1:], "vm": owner.uuid, "target": "vda"}
    says = (volume[1:], owner.name, "detach it there first")
    refused(reply, ErrorCode.DISK_IN_USE_BY_VM, says=says, facts=facts)


def test_a_disk_of_a_running_machine_is_not_disconnected(scene: Scene, volume: str) -> None:
    with _connected(scene, volume) as path, SilentGuest([Disk(path, "vda")]) as owner, nothing_changes(scene.stack):
        plain = scene.send({"command": "disconnectPhysicalDisk", "volume": volume})
        forced = scene.send({"command": "disconnectPhysicalDisk", "volume": volume, "force": True, "reason": "test"})
    facts = {"volume": volume[1:], "holders": [f"vm {owner.name} as vda"]}
    refused(plain, ErrorCode.VOLUME_BUSY, says=(volume[1:], owner.name, "stop them"), facts=facts)
    refused(forced, ErrorCode.DISK_IN_USE_BY_VM, says=(owner.name, "detachDisk"), facts={"vms": [owner.uuid]})


def test_a_machine_that_does_not_have_the_volume_is_not_told_of_its_size(scene: Scene, volume: str) -> None:
    command = {"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": 32 * MIB}
    with SilentGuest() as machine, nothing_changes(scene.stack):
        reply = scene.send({**command, "vm": machine.uuid})
    facts = {"volume": volume[1:], "vm": machine.uuid}
    refused(reply, ErrorCode.DISK_NOT_FOUND, says=(machine.name, volume[1:]), facts=facts)


@contextmanager
def _stopped() -> Iterator[Machine]:
    with SilentGuest(persistent=True) as machine:
        machine.domain.destroy()
        yield machine


@contextmanager
def _connected(scene: Scene, volume: str) -> Iterator[Any]:
    """The volume's device, for a machine to have from its start."""
    path = scene.stack.link(volume)
    assert scene.send({"command": "connectPhysicalDisk", "volume": volume})["status"] == "success"
    try:
        yield path
    finally:
        assert scene.send({"command": "disconnectPhysicalDisk", "volume": volume})["status"] == "success"


def _undone(reply: dict[str, Any]) -> None:
    assert {step["step"]: step["status"] for step in reply["steps"]}["attach"] == "undone"
