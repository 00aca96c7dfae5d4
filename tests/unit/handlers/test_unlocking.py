# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes as disks of machines, and what is refused for them."""

import os
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from fake_host import FakeHost
from fake_images import header
from fakes_domains import FakeMachine
from storpool_agent.domains.model import secret_uuid
from storpool_agent.errors import LibvirtRefused, LibvirtTimeout, LibvirtUnavailable
from storpool_agent.images.luks import PAYLOAD_OFFSET_BYTES
from storpool_agent.storpool.model import Volume
from storpool_commands.copies import (
    BackupSnapshot,
    CopyVolumeToSecondary,
    CreateTemplateFromSnapshot,
    CreateTemplateFromVolume,
    MigrateVolume,
)
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, DetachDisk, GetPhysicalDisk, StorpoolResize
from storpool_commands.encryption import Encryption, Key
from storpool_commands.errors import ErrorCode
from storpool_commands.images import StoredImage
from storpool_commands.snapshots import RevertSnapshot, TakeSnapshot
from storpool_commands.vm_snapshots import RevertVmSnapshot, TakeVmSnapshot, VolumeAndSnapshot
from storpool_commands.volumes import CreateVolumeFromSnapshot, DeleteVolume

MIB = 1 << 20
RIGHT = Encryption(key=Key(file="disk"))
WRONG = Encryption(key=Key(secret=SecretStr("wrong")))


@pytest.fixture
def machine(host: FakeHost) -> FakeMachine:
    host.keys.known["disk"] = b"geheim"
    return host.machine()


@pytest.fixture
def volume(host: FakeHost, machine: FakeMachine) -> Volume:
    return encrypted(host)


def encrypted(host: FakeHost, *, snapshot: bool = False, state: str = "luks1") -> Volume:
    """Of 6 MiB."""
    made = host.storpool.add(6 * MIB, snapshot=snapshot)
    made = host.storpool.volumes[made.global_id] = replace(made, tags={"sp-luks": state})
    os.pwrite(host.storpool.disk(made.global_id), header(b"geheim"), 0)
    return made


def attach(machine: FakeMachine, volume: Volume, encryption: Encryption | None = RIGHT, **more: Any) -> AttachDisk:
    return AttachDisk(vm=machine.uuid, volume=str(volume.reference), encryption=encryption, **more)


def test_an_attached_one_says_what_the_machine_sees_and_libvirt_can_open_it(
    host: FakeHost, machine: FakeMachine, volume: Volume
) -> None:
    attached = host.succeed(attach(machine, volume))
    assert (attached.size_bytes, attached.payload_size_bytes) == (6 * MIB, 6 * MIB - PAYLOAD_OFFSET_BYTES)
    assert host.domains.secrets == {secret_uuid(volume.global_id): b"geheim"}
    assert machine.live["vda"].secret == secret_uuid(volume.global_id)
    assert host.succeed(GetPhysicalDisk(volume=str(volume.reference))).encrypted
    host.succeed(DetachDisk(vm=machine.uuid, volume=str(volume.reference)))
    assert (host.domains.secrets, host.storpool.attached) == ({}, {})


@pytest.mark.parametrize(
    ("state", "encryption", "code"),
    [
        pytest.param("luks1", None, ErrorCode.KEY_REQUIRED, id="no key"),
        pytest.param(None, RIGHT, ErrorCode.NOT_ENCRYPTED, id="a key for one that is not encrypted"),
        pytest.param("new", RIGHT, ErrorCode.NOT_ENCRYPTED, id="not formatted yet"),
        pytest.param("formatting", RIGHT, ErrorCode.NOT_ENCRYPTED, id="being formatted"),
        pytest.param("formatting", None, ErrorCode.KEY_REQUIRED, id="being formatted, no key"),
        pytest.param("luks1", Encryption(key=Key(file="other")), ErrorCode.KEY_NOT_FOUND, id="no such key"),
        pytest.param("luks1", WRONG, ErrorCode.WRONG_KEY, id="another key"),
    ],
)
@pytest.mark.parametrize("running", [True, False])
def test_what_cannot_be_opened_is_not_attached(
    host: FakeHost,
    machine: FakeMachine,
    volume: Volume,
    state: str | None,
    encryption: Encryption | None,
    code: ErrorCode,
    running: bool,
) -> None:
    machine.running = running
    host.storpool.volumes[volume.global_id] = replace(volume, tags={"sp-luks": state} if state else {})
    failure = host.fail(attach(machine, volume, encryption))
    assert (failure.code, failure.retry, failure.side_effects) == (code, "final", "none")
    assert (host.storpool.attached, host.domains.secrets, machine.live, machine.config) == ({}, {}, {}, {})


def test_a_tag_without_a_header_is_told(host: FakeHost, machine: FakeMachine) -> None:
    volume = host.storpool.add(6 * MIB)
    host.storpool.volumes[volume.global_id] = replace(volume, tags={"sp-luks": "luks1"})
    failure = host.fail(attach(machine, volume))
    assert (failure.code, failure.side_effects) == (ErrorCode.NOT_ENCRYPTED, "none")


def test_a_header_without_the_tag_is_a_guests_own(host: FakeHost, machine: FakeMachine, volume: Volume) -> None:
    host.storpool.volumes[volume.global_id] = replace(volume, tags={})
    attached = host.succeed(attach(machine, volume, None))
    assert (attached.payload_size_bytes, machine.live["vda"].secret) == (None, None)


def test_attaching_again_gives_libvirt_the_secret_again(host: FakeHost, machine: FakeMachine, volume: Volume) -> None:
    host.succeed(attach(machine, volume))
    host.domains.reconnect()
    assert host.domains.secrets == {}
    again = host.succeed(attach(machine, volume))
    assert (again.attached_now, host.domains.secrets) == (False, {secret_uuid(volume.global_id): b"geheim"})


def test_a_wrong_key_does_not_replace_the_right_one(host: FakeHost, machine: FakeMachine, volume: Volume) -> None:
    host.succeed(attach(machine, volume))
    failure = host.fail(attach(machine, volume, WRONG))
    assert (failure.code, failure.side_effects) == (ErrorCode.WRONG_KEY, "none")
    assert host.domains.secrets == {secret_uuid(volume.global_id): b"geheim"}
    assert (volume.global_id, 1) in host.storpool.attached


@pytest.mark.parametrize("call", ["set_secret", "plug"])
def test_what_libvirt_refuses_is_undone(host: FakeHost, machine: FakeMachine, volume: Volume, call: str) -> None:
    host.domains.fail(call, LibvirtRefused("no"))
    failure = host.fail(attach(machine, volume))
    assert (failure.code, failure.side_effects) == (ErrorCode.LIBVIRT_REFUSED, "none")
    assert (host.storpool.attached, host.domains.secrets) == ({}, {})


def test_a_machine_that_may_have_the_disk_keeps_what_opens_it(
    host: FakeHost, machine: FakeMachine, volume: Volume
) -> None:
    host.domains.fail("plug", LibvirtTimeout("silent"))
    assert host.fail(attach(machine, volume)).retry == "uncertain"
    assert host.domains.secrets == {secret_uuid(volume.global_id): b"geheim"}


def test_a_detach_that_libvirt_keeps_from_forgetting_the_secret_says_so(
    host: FakeHost, machine: FakeMachine, volume: Volume
) -> None:
    host.succeed(attach(machine, volume))
    detach = DetachDisk(vm=machine.uuid, volume=str(volume.reference))
    host.domains.fail("forget_secret", LibvirtUnavailable("down"))
    failure = host.fail(detach)
    assert (failure.code, failure.side_effects) == (ErrorCode.LIBVIRT_UNAVAILABLE, "partial")
    host.succeed(detach)
    assert host.domains.secrets == {}


def test_a_disk_that_the_machine_has_otherwise_is_a_conflict(
    host: FakeHost, machine: FakeMachine, volume: Volume
) -> None:
    host.storpool.volumes[volume.global_id] = replace(volume, tags={})
    host.succeed(attach(machine, volume, None))
    host.storpool.volumes[volume.global_id] = volume
    assert host.fail(attach(machine, volume)).code is ErrorCode.DISK_CONFLICT


def test_a_machine_is_told_the_size_without_the_header(host: FakeHost, machine: FakeMachine, volume: Volume) -> None:
    host.succeed(attach(machine, volume))
    resized = host.succeed(StorpoolResize(volume=str(volume.reference), new_size_bytes=8 * MIB))
    assert (resized.size_bytes, resized.payload_size_bytes) == (8 * MIB, 8 * MIB - PAYLOAD_OFFSET_BYTES)
    assert machine.sizes == {"vda": 8 * MIB - PAYLOAD_OFFSET_BYTES}


def test_one_that_is_attached_nowhere_says_both_sizes_too(host: FakeHost, volume: Volume) -> None:
    resized = host.succeed(StorpoolResize(volume=str(volume.reference), new_size_bytes=8 * MIB))
    assert (resized.payload_size_bytes, resized.vms) == (8 * MIB - PAYLOAD_OFFSET_BYTES, [])


def test_one_is_not_made_smaller_than_its_header(host: FakeHost, volume: Volume) -> None:
    resize = StorpoolResize(
        volume=str(volume.reference), new_size_bytes=MIB, expected_size_bytes=6 * MIB, shrink_ok=True
    )
    assert host.fail(resize).code is ErrorCode.WOULD_SHRINK


TARGET = StoredImage(store="file:///srv/secondary", path="disk.img")


@pytest.mark.parametrize(
    "command",
    [
        BackupSnapshot(snapshot="SNAPSHOT", target=TARGET),
        CopyVolumeToSecondary(volume="VOLUME", target=TARGET),
        CreateTemplateFromVolume(volume="VOLUME", target=TARGET),
        CreateTemplateFromSnapshot(snapshot="SNAPSHOT", target=TARGET),
        MigrateVolume(volume="VOLUME", target=TARGET),
        MigrateVolume(volume="VOLUME", target=TARGET, vm="MACHINE"),
    ],
    ids=lambda command: f"{command.command}{' live' if getattr(command, 'vm', None) else ''}",
)
def test_nothing_of_it_leaves_storpool(host: FakeHost, machine: FakeMachine, volume: Volume, command: Any) -> None:
    snapshot = encrypted(host, snapshot=True)
    names = {"VOLUME": str(volume.reference), "SNAPSHOT": str(snapshot.reference), "MACHINE": machine.uuid}
    named = {name: names[value] for name, value in command if isinstance(value, str) and value in names}
    failure = host.fail(command.model_copy(update=named))
    assert (failure.code, failure.side_effects) == (ErrorCode.ENCRYPTED_UNSUPPORTED, "none")
    assert host.storpool.attached == {}


def test_what_is_made_of_it_at_storpool_is_encrypted_too(host: FakeHost, volume: Volume) -> None:
    reference = str(volume.reference)
    snapshot = host.succeed(TakeSnapshot(volume=reference))
    clone = host.succeed(CreateVolumeFromSnapshot(snapshot=f"~{snapshot.global_id}"))
    template = host.succeed(CreateTemplateFromVolume(volume=reference, backup=False))
    moved = host.succeed(MigrateVolume(volume=reference, template="dev", new_volume=True))
    kept = host.succeed(DeleteVolume(volume=reference, delete_after_s=60)).kept_snapshot
    tags = [
        host.storpool.volumes[one].tags["sp-luks"]
        for one in (snapshot.global_id, clone.global_id, template.global_id, moved.volume, kept)
    ]
    assert tags == ["luks1"] * 5


def test_of_a_group_each_snapshot_is_as_its_volume(host: FakeHost, volume: Volume) -> None:
    plain = host.storpool.add(MIB)
    taken = host.succeed(TakeVmSnapshot(volumes=[str(volume.reference), str(plain.reference)], quiesce="no"))
    assert [host.storpool.volumes[one.snapshot].tags.get("sp-luks") for one in taken.snapshots] == ["luks1", None]


@pytest.mark.parametrize(
    ("volume_state", "snapshot_state"),
    [("luks1", None), (None, "luks1"), ("luks1", "new"), ("new", "luks1"), ("luks1", "formatting")],
)
@pytest.mark.parametrize("together", [True, False])
def test_data_is_reverted_to_that_of_the_same_kind_alone(
    host: FakeHost, volume_state: str | None, snapshot_state: str | None, together: bool
) -> None:
    volume, snapshot = host.storpool.add(MIB), host.storpool.add(MIB, snapshot=True)
    for one, state in ((volume, volume_state), (snapshot, snapshot_state)):
        host.storpool.volumes[one.global_id] = replace(one, tags={"sp-luks": state} if state else {})
    pair = VolumeAndSnapshot(volume=str(volume.reference), snapshot=str(snapshot.reference))
    command = RevertVmSnapshot(disks=[pair]) if together else RevertSnapshot(**pair.model_dump())
    failure = host.fail(command)
    assert (failure.code, failure.side_effects) == (ErrorCode.ENCRYPTED_UNSUPPORTED, "none")


def test_a_dry_run_has_the_same_steps_and_gives_libvirt_nothing(
    host: FakeHost, machine: FakeMachine, volume: Volume
) -> None:
    plan = host.plan(attach(machine, volume))
    assert (host.domains.secrets, host.storpool.attached) == ({}, {})
    done = host.run(attach(machine, volume))
    assert [step.step for step in plan.steps] == [step.step for step in done.steps]
    assert {"unlock", "secret"} <= {step.step for step in plan.steps}
    assert host.plan(attach(machine, volume, None)).model_dump()["code"] is ErrorCode.KEY_REQUIRED


def test_the_raw_device_of_one_can_be_connected(host: FakeHost, volume: Volume) -> None:
    assert host.succeed(ConnectPhysicalDisk(volume=str(volume.reference))).size_bytes == 6 * MIB
