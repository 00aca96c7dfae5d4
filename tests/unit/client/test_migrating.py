# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a driver of a migration does, in which order, and what it does when something fails or it dies itself."""

from dataclasses import replace
from typing import Any

import pytest

from storpool_commands.client.errors import CommandFailed, MigrationFailed, MigrationUnresolved
from storpool_commands.client.migrating import CompletedMigration, Drive, MigrationPlan
from storpool_commands.copies import MigrateVolume
from storpool_commands.encryption import Key
from storpool_commands.errors import ErrorCode
from storpool_commands.images import StoredImage
from unit.client.two_hosts import ROOT, VM, TwoHosts, disk

PLAN = MigrationPlan("m", "a", "b")
ALL_OF_IT = [
    ("a", "describeMachine"),
    ("b", "prepareMigration"),
    ("a", "migrateVm"),
    ("b", "finishMigration"),
    ("a", "finishMigration"),
]


@pytest.fixture
def hosts() -> TwoHosts:
    return TwoHosts()


def moved(hosts: TwoHosts, **changes: Any) -> CompletedMigration:
    return Drive(hosts, replace(PLAN, **changes)).run()


def assert_on(host: str, hosts: TwoHosts) -> None:
    """There, and only there."""
    other = {"a": "b", "b": "a"}[host]
    assert (hosts.runs_on, hosts.attached) == (host, {host: {ROOT}, other: set()})


def test_the_machine_moves_and_the_source_lets_go_last(hosts: TwoHosts) -> None:
    done = moved(hosts)
    assert hosts.sent == ALL_OF_IT
    assert_on("b", hosts)
    assert (done.vm, done.detached, done.downtime_ms, done.total_ms) == (VM, [ROOT], 7, 70)


@pytest.mark.parametrize("broken", [("b", "prepareMigration"), ("a", "migrateVm")])
def test_a_machine_that_did_not_move_is_taken_back_on_both_hosts(hosts: TwoHosts, broken: tuple[str, str]) -> None:
    hosts.breaks[broken] = ErrorCode.CPU_INCOMPATIBLE
    with pytest.raises(MigrationFailed, match="cpu-incompatible"):
        moved(hosts)
    assert hosts.sent[-2:] == [("b", "rollbackMigration"), ("a", "rollbackMigration")]
    assert_on("a", hosts)


def test_what_failed_before_anything_was_prepared_is_said_as_it_is(hosts: TwoHosts) -> None:
    hosts.breaks["a", "describeMachine"] = ErrorCode.VM_NOT_FOUND
    with pytest.raises(CommandFailed, match="vm-not-found"):
        moved(hosts)
    assert hosts.sent == ALL_OF_IT[:1]


def test_an_unknown_outcome_is_asked_for_once_more(hosts: TwoHosts) -> None:
    hosts.after["a", "migrateVm"] = ErrorCode.MIGRATION_UNKNOWN
    moved(hosts)
    assert hosts.sent.count(("a", "migrateVm")) == 2
    assert_on("b", hosts)


def test_what_nobody_can_prove_is_left_alone_and_told_with_what_both_hosts_say(hosts: TwoHosts) -> None:
    hosts.breaks["a", "migrateVm"] = ErrorCode.MIGRATION_UNKNOWN
    with pytest.raises(MigrationUnresolved) as caught:
        moved(hosts)
    assert caught.value.seen == {"a": "running", "b": "vm-not-found"}
    assert caught.value.cause.code is ErrorCode.MIGRATION_UNKNOWN
    assert hosts.sent == [*ALL_OF_IT[:2], *[("a", "migrateVm")] * 3, ("a", "describeMachine"), ("b", "describeMachine")]
    del hosts.breaks["a", "migrateVm"]
    moved(hosts)
    assert_on("b", hosts)


def test_a_machine_that_is_on_the_other_host_after_all_has_moved(hosts: TwoHosts) -> None:
    hosts.after["a", "migrateVm"] = ErrorCode.MIGRATION_FAILED
    moved(hosts)
    assert hosts.sent[2:5] == [("a", "migrateVm"), ("b", "rollbackMigration"), ("a", "migrateVm")]
    assert_on("b", hosts)


def test_a_destination_that_has_the_machine_is_believed_in_the_end(hosts: TwoHosts) -> None:
    hosts.after["a", "migrateVm"] = ErrorCode.MIGRATION_UNKNOWN
    hosts.dies_before = ("b", "finishMigration")
    with pytest.raises(KeyboardInterrupt):
        moved(hosts)
    hosts.dies_before, hosts.breaks["a", "migrateVm"] = None, ErrorCode.MIGRATION_OVER
    assert moved(hosts).detached == [ROOT]
    assert_on("b", hosts)


def test_a_destination_that_has_the_machine_already_is_not_prepared(hosts: TwoHosts) -> None:
    hosts.breaks["b", "prepareMigration"] = hosts.breaks["b", "rollbackMigration"] = ErrorCode.MIGRATION_COMPLETED
    with pytest.raises(CommandFailed, match="migration-completed"):
        moved(hosts)
    assert hosts.sent == [*ALL_OF_IT[:2], ("b", "rollbackMigration")]


def test_a_source_that_cannot_let_go_yet_is_asked_again(hosts: TwoHosts) -> None:
    hosts.breaks["a", "finishMigration"] = ErrorCode.VOLUME_BUSY
    with pytest.raises(MigrationUnresolved, match="volume-busy"):
        moved(hosts)
    del hosts.breaks["a", "finishMigration"]
    moved(hosts)
    assert_on("b", hosts)


@pytest.mark.parametrize("where", ALL_OF_IT)
def test_a_driver_that_died_is_followed_by_one_that_goes_on(hosts: TwoHosts, where: tuple[str, str]) -> None:
    hosts.dies_before = where
    with pytest.raises(KeyboardInterrupt):
        moved(hosts)
    hosts.dies_before = None
    done = moved(hosts, begin_within_s=5.0)
    assert done.detached == [ROOT]
    assert_on("b", hosts)


def test_a_disk_in_a_file_moves_to_storpool_before_and_back_to_a_file_after(hosts: TwoHosts) -> None:
    hosts.disks = [disk(global_id=None)]
    file = StoredImage(store="file:///vms", path="a.qcow2")
    volumes = [
        MigrateVolume(volume=f"~{ROOT}", target=file, vm="m"),
        MigrateVolume(source=file, source_format="qcow2", template="t", vm="m"),
    ]
    done = moved(hosts, volumes=volumes)
    assert hosts.sent == [("a", "migrateVolume"), *ALL_OF_IT, ("b", "migrateVolume")]
    assert len(done.volumes) == 2


def test_a_disk_that_the_destination_cannot_have_is_refused_first(hosts: TwoHosts) -> None:
    hosts.disks = [disk(global_id=ROOT), disk(global_id=None)]
    with pytest.raises(ValueError, match=r"vda of m is /vms/a.qcow2, not at StorPool"):
        moved(hosts)
    assert hosts.sent == ALL_OF_IT[:1]


def test_a_cdrom_is_no_reason_to_stay(hosts: TwoHosts) -> None:
    hosts.disks.append(disk(global_id=None, device="cdrom"))
    moved(hosts)
    assert_on("b", hosts)


@pytest.mark.parametrize(
    ("encrypted", "keys", "said"),
    [(True, {}, "is encrypted: give its key"), (False, {ROOT: Key(file="k")}, "is not encrypted")],
)
def test_a_key_is_for_an_encrypted_volume(hosts: TwoHosts, encrypted: bool, keys: dict[str, Key], said: str) -> None:
    hosts.disks = [disk(global_id=ROOT, encrypted=encrypted)]
    with pytest.raises(ValueError, match=said):
        moved(hosts, keys=keys)
    assert hosts.sent == ALL_OF_IT[:1]


def test_a_volume_that_moves_with_no_machine_is_refused(hosts: TwoHosts) -> None:
    with pytest.raises(ValueError, match="needs vm"):
        moved(hosts, volumes=[MigrateVolume(volume="v", template="t")])
    assert hosts.sent == []
