# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A migration as a management plane drives it, by the SDK, and a test that may do something between its steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from kvm_host import KvmHost
from storpool_commands.client import CompletedMigration, MigrationPlan
from storpool_commands.copies import MigrateVolume
from storpool_commands.encryption import Key
from traveller import Traveller
from two_hosts import TwoHosts

BEGIN_WITHIN_S = 300.0
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
    """Called before each step: describe, prepare, migrate, finish or rollback on source or destination."""
    bandwidth_bytes_s: int | None = None
    volumes: Sequence[MigrateVolume] = ()
    keys: Mapping[str, Key] = field(default_factory=dict[str, Key])
    migration: UUID = field(default_factory=uuid4)

    def run(self) -> CompletedMigration:
        """To its end. Raises what `ManagementClient.migrate` does."""
        plan = MigrationPlan(
            self.guest.uuid,
            self.source.name,
            self.destination.name,
            migration=self.migration,
            volumes=self.volumes,
            keys=self.keys,
            begin_within_s=BEGIN_WITHIN_S,
            bandwidth_bytes_s=self.bandwidth_bytes_s,
        )
        return self.hosts.management.migrate(plan, on_phase=self._phase)

    def _phase(self, phase: str) -> None:
        match phase.split():
            case ["look", *_]:
                self.before("describe")
            case ["prepare", _]:
                self.before("prepare")
            case ["move", what] if what == self.guest.uuid:
                self.before("migrate")
            case ["finish", "on", host]:
                self.before(f"finish on {self._role(host)}")
            case ["roll", "back", "on", host]:
                self.before(f"rollback on {self._role(host)}")
            case _:
                pass

    def _role(self, host: str) -> str:
        return "source" if host == self.source.name else "destination"
