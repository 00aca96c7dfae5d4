# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One example of every command that moves a machine to another host, and of its result, each field set."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from storpool_commands.encryption import Encryption, Key
from storpool_commands.migration import (
    DescribedDisk,
    DescribedMachine,
    DescribeMachine,
    FinishedMigration,
    FinishMigration,
    MigratedVm,
    MigrateVm,
    MigrationDisk,
    PreparedDisk,
    PreparedMigration,
    PrepareMigration,
    RollbackMigration,
    RolledBackMigration,
    SeenMigration,
)
from storpool_commands.wire import AnswerModel, CommandModel

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
MIGRATION = UUID("1c8b61a4-6f0e-4b0e-a1d9-7a9d3f1b6c0a")
VM = "e5f570c2-4e43-4630-b2e0-8657bee8bbc2"
SEEN = SeenMigration(
    migration=MIGRATION,
    vm=VM,
    name="web-1",
    role="source",
    peer="kvm2",
    since=NOW,
    expires_at=NOW,
    expired=True,
    volumes=["d.n.a1"],
)

COMMAND_SAMPLES: tuple[CommandModel[Any], ...] = (
    DescribeMachine(vm="web-1"),
    PrepareMigration(
        migration=MIGRATION,
        vm=VM,
        name="web-1",
        source="kvm1",
        expires_at=NOW,
        cpu="<cpu mode='custom'/>",
        arch="x86_64",
        machine_type="pc-q35-7.2",
        domain_type="qemu",
        disks=[
            MigrationDisk(volume="~d.n.a1", mode="rw", generation=4, encryption=Encryption(key=Key(file="a1"))),
            MigrationDisk(volume="~d.n.a2", mode="ro"),
        ],
        timeout_s=30,
    ),
    MigrateVm(
        migration=MIGRATION,
        vm=VM,
        destination="kvm2",
        expires_at=NOW,
        disks=["~d.n.a1"],
        bandwidth_bytes_s=1 << 30,
        auto_converge=False,
        downtime_limit_ms=500,
    ),
    FinishMigration(migration=MIGRATION, vm=VM, timeout_s=30),
    RollbackMigration(migration=MIGRATION, vm=VM, timeout_s=30),
)

RESULT_SAMPLES: tuple[AnswerModel, ...] = (
    DescribedMachine(
        vm=VM,
        name="web-1",
        state="running",
        persistent=True,
        cpu="<cpu mode='custom'/>",
        arch="x86_64",
        machine_type="pc-q35-7.2",
        domain_type="kvm",
        memory_bytes=1 << 30,
        vcpus=2,
        disks=[
            DescribedDisk(
                target="vda",
                global_id="d.n.a1",
                path="/dev/storpool-byid/d.n.a1",
                format="raw",
                mode="rw",
                encrypted=False,
                device="disk",
                cache="none",
            )
        ],
    ),
    PreparedMigration(
        migration=MIGRATION,
        vm=VM,
        disks=[PreparedDisk(global_id="d.n.a1", path="/dev/storpool-byid/d.n.a1", attached_now=True)],
        expires_at=NOW,
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
    ),
    MigratedVm(
        migration=MIGRATION,
        vm=VM,
        destination="kvm2",
        moved_now=True,
        memory_bytes=1 << 30,
        downtime_ms=40,
        total_ms=5700,
    ),
    FinishedMigration(migration=MIGRATION, vm=VM, role="source", detached=["d.n.a1"], attached=[]),
    RolledBackMigration(migration=MIGRATION, vm=VM, role=None, detached=[], attached=[]),
)
