# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every command with dryRun: all its checks, its steps in order, and not one change."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from fake_host import FakeHost
from fakes_domains import FakeDomains, FakeMachine
from storpool_agent.journal.migrations import Ticket
from storpool_commands import (
    control,
    copies,
    disks,
    encrypting,
    encryption,
    images,
    migration,
    pools,
    snapshots,
    tags,
    vm_snapshots,
    volumes,
)
from storpool_commands.catalogue import Command
from storpool_commands.dry_run import DryRun
from storpool_commands.envelope import Failure, Success
from storpool_commands.errors import ErrorCode
from unit.commands.samples import COMMANDS, wire_name

MIB = 1 << 20
COMING, OTHER = UUID("1c8b61a4-6f0e-4b0e-a1d9-7a9d3f1b6c0a"), UUID("7c8b61a4-6f0e-4b0e-a1d9-7a9d3f1b6c0a")
COME, GOING = "11111111-2222-3333-4444-555555555555", "21111111-2222-3333-4444-555555555555"
LATER = datetime(2200, 1, 1, tzinfo=UTC)


@pytest.fixture
def machine(host: FakeHost) -> FakeMachine:
    """A running machine that has `used`, which is attached here; `free`, `twin` and two snapshots are not, nor is
    `new`, which is to be encrypted."""
    machine = host.machine(running=True)
    host.keys.known["disk"] = b"s3cret"
    host.succeed(volumes.CreateVolume(size_bytes=4 * MIB, template="dev", name="new", encrypted=True))
    for name in ("free", "twin", "used"):
        host.storpool.add(MIB, name)
    for name in ("snap", "twin-snap"):
        host.storpool.add(MIB, name, snapshot=True)
    (host.secondary.files("file:///srv/secondary") / "there.img").write_bytes(b"contents" * 64)
    host.succeed(disks.AttachDisk(vm=machine.uuid, volume="used"))
    host.domains.peers["kvm2"] = FakeDomains()
    come = host.domains.add(FakeMachine("come", uuid=COME))
    host.journal.tickets.open(Ticket(str(COMING), "destination", come.uuid, come.name, "kvm2", LATER.timestamp()))
    return machine


def planned(vm: str) -> dict[str, Command]:
    """One request for each command that the host queue takes."""
    wanted: list[Command] = [
        disks.ConnectPhysicalDisk(volume="free", vm_uuid=vm, vc_policy="daily", generation=4),
        disks.DisconnectPhysicalDisk(volume="free"),
        disks.DisconnectPhysicalDiskByPath(path="/dev/storpool/free"),
        disks.AttachDisk(vm=vm, volume="free", disk_id=1),
        disks.DetachDisk(vm=vm, volume="used"),
        disks.StorpoolResize(volume="used", new_size_bytes=2 * MIB),
        disks.GetPhysicalDisk(volume="used"),
        disks.SetDiskQos(vm=vm, volume="used", iotune=disks.IoTune(total_iops_sec=100)),
        volumes.CreateVolume(size_bytes=MIB, template="dev"),
        volumes.CreateVolumeFromTemplate(snapshot="snap"),
        volumes.CreateVolumeFromSnapshot(snapshot="snap"),
        volumes.DeleteVolume(volume="free", delete_after_s=60),
        volumes.UpdateVolume(volume="free", iops=100),
        volumes.SetQosTier(volume="free", tier="gold"),
        volumes.FenceVolumes(volumes=["free"], confirm_fenced=True, reason="test"),
        snapshots.TakeSnapshot(volume="used"),
        snapshots.DeleteSnapshot(snapshot="snap"),
        snapshots.RevertSnapshot(volume="free", snapshot="snap", safety_snapshot=True),
        snapshots.DeleteTemplate(snapshot="snap"),
        vm_snapshots.TakeVmSnapshot(volumes=["used", "free"]),
        vm_snapshots.RevertVmSnapshot(
            disks=[
                vm_snapshots.VolumeAndSnapshot(volume="free", snapshot="snap"),
                vm_snapshots.VolumeAndSnapshot(volume="twin", snapshot="twin-snap"),
            ]
        ),
        vm_snapshots.DeleteVmSnapshot(snapshots=["snap", "nothing"]),
        tags.StorPoolCreateTags(volumes=["free", "used"], set={"vc-policy": "daily"}),
        tags.StorPoolDeleteTags(volumes=["used"], remove=["cvm"]),
        migration.DescribeMachine(vm=vm),
        migration.PrepareMigration(
            migration=OTHER,
            vm=GOING,
            name="going",
            source="kvm2",
            expires_at=LATER,
            disks=[migration.MigrationDisk(volume="free")],
        ),
        migration.MigrateVm(migration=OTHER, vm=vm, destination="kvm2", expires_at=LATER, disks=["used"]),
        migration.FinishMigration(migration=COMING, vm=COME),
        migration.RollbackMigration(migration=OTHER, vm=vm),
        pools.AddStoragePool(name="fast", url=SecretStr("storpool://s3cret@10.0.0.5:81/dev")),
        pools.RemoveStoragePool(name="fast"),
        pools.GetPoolStats(),
        pools.GetHostInfo(),
        control.Ping(),
    ]
    return {wire_name(command): command for command in (*wanted, *copies_planned())}


def copies_planned() -> list[Command]:
    store = "file:///srv/secondary"
    target = images.StoredImage(store=store, path="deep/er/disk.img")
    source = images.ImageSource(store=store, path="there.img", format="raw")
    return [
        copies.DownloadTemplate(source=source, template="dev", name="t-1"),
        copies.BackupSnapshot(snapshot="snap", target=target),
        copies.CreateTemplateFromVolume(volume="free", target=target),
        copies.CreateTemplateFromSnapshot(snapshot="snap", target=target),
        copies.CopyVolumeToSecondary(volume="used", target=target),
        copies.DownloadVolume(source=source, template="dev"),
        copies.MigrateVolume(volume="free", target=target, delete_source=True),
        encrypting.EncryptVolume(volume="new", key=encryption.Key(file="disk"), source_snapshot="snap"),
    ]


READ_ONLY = {"getPhysicalDisk", "describeMachine", "poolStats", "hostInfo", "ping"}
NOTHING_TO_DO = {"disconnectPhysicalDisk", "disconnectPhysicalDiskByPath", "removeStoragePool"}


@pytest.mark.parametrize("name", [wire_name(model) for model in COMMANDS])
def test_a_dry_run_says_what_would_be_done_and_does_nothing(host: FakeHost, machine: FakeMachine, name: str) -> None:
    before = state(host)
    reply = host.plan(planned(machine.uuid)[name])
    assert isinstance(reply, Success), reply
    assert reply.result == DryRun(body_command=name)
    if name not in READ_ONLY | NOTHING_TO_DO:
        assert "planned" in [step.status for step in reply.steps], reply.steps
    assert state(host) == before


@pytest.mark.parametrize("name", [wire_name(model) for model in COMMANDS if wire_name(model) not in READ_ONLY])
def test_what_was_planned_is_done_in_the_same_steps(host: FakeHost, machine: FakeMachine, name: str) -> None:
    command = planned(machine.uuid)[name]
    plan = host.plan(command)
    done = host.run(command)
    assert isinstance(done, Success), done
    assert [step.step for step in plan.steps] == [step.step for step in done.steps]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (disks.ConnectPhysicalDisk(volume="nothing"), ErrorCode.VOLUME_NOT_FOUND),
        (disks.AttachDisk(vm="nobody", volume="free"), ErrorCode.VM_NOT_FOUND),
        (disks.AttachDisk(vm="vm-0", volume="free", target="vda"), ErrorCode.TARGET_TAKEN),
        (disks.DisconnectPhysicalDisk(volume="used"), ErrorCode.VOLUME_BUSY),
        (disks.StorpoolResize(volume="free", new_size_bytes=512), ErrorCode.WOULD_SHRINK),
        (volumes.CreateVolume(size_bytes=512, template="none"), ErrorCode.TEMPLATE_NOT_FOUND),
        (volumes.CreateVolume(size_bytes=512, template="dev", name="snap"), ErrorCode.NAME_TAKEN),
        (volumes.DeleteVolume(volume="used"), ErrorCode.VOLUME_BUSY),
        (snapshots.RevertSnapshot(volume="used", snapshot="snap"), ErrorCode.DISK_IN_USE_BY_VM),
    ],
)
def test_a_check_that_fails_is_the_failure_of_the_command(
    host: FakeHost, machine: FakeMachine, command: Command, code: ErrorCode
) -> None:
    reply = host.plan(command)
    assert isinstance(reply, Failure)
    assert (reply.code, reply.side_effects) == (code, "none")
    assert reply.code == host.fail(command).code


def test_a_generation_that_is_planned_is_not_kept(host: FakeHost, machine: FakeMachine) -> None:
    host.plan(disks.ConnectPhysicalDisk(volume="free", generation=9))
    host.succeed(disks.ConnectPhysicalDisk(volume="free", generation=3))
    stale = host.plan(disks.ConnectPhysicalDisk(volume="free", generation=2))
    assert isinstance(stale, Failure)
    assert stale.code == ErrorCode.STALE_GENERATION


def state(host: FakeHost) -> Any:
    """All that a command may change."""
    kept = {name: value for name, value in vars(host.storpool).items() if name not in ("calls", "_numbers")}
    files = [each for each in host.directory.rglob("*") if each.is_file()]
    rows = [host.journal.temporaries.left(), host.journal.tickets.under_way()]
    return deepcopy((kept, host.domains.machines, list(host.pools.kept), host.journal.records(None, 100), files, rows))
