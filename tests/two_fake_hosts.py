# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Two hosts of fakes with one StorPool, between which machines move, for tests of handlers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from fake_host import FakeHost
from fakes_domains import FakeMachine
from storpool_agent.domains.model import Disk
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Journal
from storpool_agent.storpool.model import Volume
from storpool_commands.envelope import Failure, Success
from storpool_commands.migration import (
    FinishMigration,
    MigrateVm,
    MigrationDisk,
    PrepareMigration,
    RollbackMigration,
)

MIGRATION = UUID("1c8b61a4-6f0e-4b0e-a1d9-7a9d3f1b6c0a")


class TwoFakeHosts:
    """A machine with a ROOT and a DATA disk runs on `kvm1`."""

    def __init__(self, directory: Path) -> None:
        self.databases = [Database(directory / name) for name in ("kvm1", "kvm2")]
        journals = [Journal(database, name) for database, name in zip(self.databases, ("kvm1", "kvm2"), strict=True)]
        self.kvm1 = FakeHost(journals[0])
        its = replace(self.kvm1.storpool, our_id=2, openers={}, failures={}, lost_answers={}, calls=[])
        self.kvm2 = FakeHost(journals[1], storpool=its)
        self.kvm2.host = replace(self.kvm2.host, name="kvm2")
        self.kvm1.domains.peers["kvm2"] = self.kvm2.domains
        self.kvm2.domains.peers["kvm1"] = self.kvm1.domains
        self.volumes = [self.kvm1.storpool.add(), self.kvm1.storpool.add()]
        self.machine = self._machine()
        self.vm = self.machine.uuid
        self.expires_at = datetime.now(UTC) + timedelta(minutes=10)

    def close(self) -> None:
        for database in self.databases:
            database.close()

    def prepare(self, **changes: Any) -> PrepareMigration:
        fields: dict[str, Any] = {
            "migration": MIGRATION,
            "vm": self.vm,
            "name": self.machine.name,
            "source": "kvm1",
            "expires_at": self.expires_at,
            "cpu": self.machine.cpu,
            "domain_type": "qemu",
            "disks": [MigrationDisk(volume=f"~{one.global_id}") for one in self.volumes],
        }
        return PrepareMigration(**{**fields, **changes})

    def send(self, **changes: Any) -> MigrateVm:
        fields: dict[str, Any] = {
            "migration": MIGRATION,
            "vm": self.vm,
            "destination": "kvm2",
            "expires_at": self.expires_at,
            "disks": [f"~{one.global_id}" for one in self.volumes],
        }
        return MigrateVm(**{**fields, **changes})

    def finish(self) -> FinishMigration:
        return FinishMigration(migration=MIGRATION, vm=self.vm)

    def roll_back(self) -> RollbackMigration:
        return RollbackMigration(migration=MIGRATION, vm=self.vm)

    def run_to(self, host: FakeHost, *commands: Any) -> list[Success | Failure]:
        return [host.run(command, request_id=uuid4()) for command in commands]

    def attached(self) -> dict[str, list[int]]:
        """Volume to the clients that have it rw."""
        found: dict[str, list[int]] = {one.global_id: [] for one in self.volumes}
        for (global_id, client), one in sorted(self.kvm1.storpool.attached.items()):
            if one.mode == "rw" and global_id in found:
                found[global_id].append(client)
        return found

    def only_at(self, client: int) -> bool:
        return all(clients == [client] for clients in self.attached().values())

    def running(self) -> list[str]:
        """The hosts that it runs on."""
        hosts = (("kvm1", self.kvm1), ("kvm2", self.kvm2))
        return [name for name, host in hosts if self._stands(host) == "running"]

    def _stands(self, host: FakeHost) -> str:
        machine = host.domains.machines.get(self.vm)
        return "absent" if machine is None or not machine.running else machine.standing or "running"

    def _machine(self) -> FakeMachine:
        machine = self.kvm1.machine()
        for number, volume in enumerate(self.volumes):
            self.kvm1.storpool.attach_elsewhere(volume, 1)
            target = f"vd{'ab'[number]}"
            machine.live[target] = machine.config[target] = self._disk(volume, target)
        return machine

    def _disk(self, volume: Volume, target: str) -> Disk:
        return Disk(
            path=self.kvm1.devices.link(volume.global_id),
            serial=volume.global_id,
            alias=f"ua-{target}",
            bus="virtio",
            mode="rw",
            cache="none",
            io="native",
            discard="unmap",
            live=True,
            config=True,
            target=target,
        )
