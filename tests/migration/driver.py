# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A migration by the agents, step by step, so that a test may do something between the steps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from kvm_host import KvmHost
from storpool_commands.client import CommandFailed
from storpool_commands.errors import ErrorCode
from storpool_commands.migration import (
    DescribedMachine,
    DescribeMachine,
    FinishMigration,
    MigrateVm,
    MigrationDisk,
    PrepareMigration,
    RollbackMigration,
)
from traveller import Traveller
from two_hosts import TwoHosts

LIFE = timedelta(minutes=5)
MIGRATE_TIMEOUT_S = 120.0
Step = str


def _nothing(_: Step) -> None: ...


@dataclass
class Driver:
    """Of one migration; `run` may be called again with whatever became of it."""

    hosts: TwoHosts
    guest: Traveller
    source: KvmHost
    destination: KvmHost
    before: Callable[[Step], None] = _nothing
    bandwidth_bytes_s: int | None = None
    migration: UUID = field(default_factory=uuid4)
    expires_at: datetime = field(default_factory=lambda: datetime.now(UTC) + LIFE)
    machine: DescribedMachine | None = None

    def run(self) -> None:
        """To its end. Raises CommandFailed, when it was definite after it has been taken back."""
        try:
            self._prepare()
            self._migrate()
        except CommandFailed as error:
            if error.retry != "uncertain":
                self.roll_back()
            raise
        self.finish()

    def finish(self) -> None:
        for host in (self.destination, self.source):
            self.before(f"finish on {self._role(host)}")
            self.hosts.call(host, FinishMigration(migration=self.migration, vm=self.guest.uuid))

    def roll_back(self) -> None:
        for host in (self.destination, self.source):
            self.before(f"rollback on {self._role(host)}")
            self.hosts.call(host, RollbackMigration(migration=self.migration, vm=self.guest.uuid))

    def _prepare(self) -> None:
        if self.machine is None:
            self.before("describe")
            self.machine = self.hosts.call(self.source, DescribeMachine(vm=self.guest.uuid))
        self.before("prepare")
        try:
            self.hosts.call(self.destination, self._preparation(self.machine))
        except CommandFailed as error:
            if error.code is not ErrorCode.MIGRATION_COMPLETED:  # an earlier run has come so far
                raise

    def _preparation(self, machine: DescribedMachine) -> PrepareMigration:
        return PrepareMigration(
            migration=self.migration,
            vm=machine.vm,
            name=machine.name,
            source=self.source.name,
            expires_at=self.expires_at,
            cpu=machine.cpu,
            arch=machine.arch,
            machine_type=machine.machine_type,
            domain_type="qemu",
            disks=[MigrationDisk(volume=volume) for volume in self._volumes()],
        )

    def _migrate(self) -> None:
        self.before("migrate")
        self.hosts.call(
            self.source,
            MigrateVm(
                migration=self.migration,
                vm=self.guest.uuid,
                destination=self.destination.name,
                expires_at=self.expires_at,
                disks=self._volumes(),
                bandwidth_bytes_s=self.bandwidth_bytes_s,
            ),
            timeout_s=MIGRATE_TIMEOUT_S,
        )

    def _volumes(self) -> list[str]:
        return [f"~{volume}" for volume in self.guest.volumes]

    def _role(self, host: KvmHost) -> str:
        return "source" if host is self.source else "destination"
