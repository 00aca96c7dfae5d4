# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A running machine moves to another host: the commands to both hosts, in order, and what to do when one fails.

Each command acts on what its host can prove, and can be repeated; so can the whole, with the same migration.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, TypeVar, Unpack, cast
from uuid import UUID, uuid4, uuid5

from storpool_commands.client.errors import (
    CallError,
    CommandFailed,
    MigrationFailed,
    MigrationUnresolved,
)
from storpool_commands.client.request import OnProgress, Options
from storpool_commands.control import QueryCommand
from storpool_commands.copies import MigratedVolume, MigrateVolume
from storpool_commands.encryption import Encryption, Key
from storpool_commands.errors import ErrorCode
from storpool_commands.migration import (
    DescribedDisk,
    DescribedMachine,
    DescribeMachine,
    FinishMigration,
    MigratedVm,
    MigrateVm,
    MigrationDisk,
    PrepareMigration,
    RollbackMigration,
)
from storpool_commands.wire import AnswerModel, CommandModel

BEGIN_WITHIN_S = 3600.0
MOST_REQUESTS = 16
"""To move one machine, each after one whose outcome is not known."""
TRIES = 2
"""Those that one call makes besides the first, or the one that an earlier call has made last."""
LOOK_S = 30.0
R = TypeVar("R")


@dataclass(frozen=True)
class MigrationPlan:
    """Which machine moves, from where to where, and how."""

    vm: str
    """UUID or name of a running machine."""
    source: str
    destination: str
    migration: UUID = field(default_factory=uuid4)
    """Keep it: a call with the same plan goes on where another one ended, or died."""
    volumes: Sequence[MigrateVolume] = ()
    """Disks that move to other storage on the way, each with `vm`. What is to be at StorPool moves on the source before
    the machine does, what is to be in a file on the destination after it. One that has moved stays where it is when the
    machine then cannot move."""
    keys: Mapping[str, Key] = field(default_factory=dict[str, Key])
    """Of encrypted volumes, by their global ids, as the destination finds them."""
    begin_within_s: float = BEGIN_WITHIN_S
    """The machine does not set out later than that, and both hosts complain of a migration that is open after it."""
    deadline: datetime | None = None
    """With a time zone. A machine that has not moved by then stays where it is."""
    bandwidth_bytes_s: int | None = None
    auto_converge: bool = True
    downtime_limit_ms: int | None = None
    """These three as in `migrateVm`."""

    def request(self, number: int = 1) -> UUID:
        """The id of the request that moves the machine, which `cancel` on the source stops. There is a second one when
        the first one's outcome is not known: it looks where the machine is by then."""
        return uuid5(self.migration, f"migrateVm {number}")


class CompletedMigration(AnswerModel):
    """The machine runs on the destination, with its volumes, and the source has none of them."""

    migration: UUID
    vm: str
    """Its UUID."""
    source: str
    destination: str
    detached: list[str]
    """Global ids of the volumes that were detached from the source now; none when an earlier call did that."""
    downtime_ms: int | None
    """How long the guest stood still. Null when nobody knows, as the one below."""
    total_ms: int | None
    volumes: list[MigratedVolume]
    """The volumes that moved to other storage, as the plan names them."""


class Caller(Protocol):
    """What a ManagementClient can do, of it."""

    def call(self, command: CommandModel[R], *, host: str, **options: Unpack[Options]) -> R: ...

    def control(self, command: CommandModel[R], *, host: str, **options: Unpack[Options]) -> R: ...


@dataclass(frozen=True)
class _Begun:
    """A request to move the machine that has been sent."""

    command: MigrateVm
    deadline: datetime | None
    number: int


@dataclass(frozen=True)
class Drive:
    """One plan, once. `on_phase` is told of every command, `on_progress` of how far those are that take long."""

    client: Caller
    plan: MigrationPlan
    on_progress: OnProgress | None = None
    on_phase: Callable[[str], None] = lambda _phase: None

    def run(self) -> CompletedMigration:
        """Raises what `ManagementClient.migrate` says."""
        plan = self.plan
        before = [self._move(place, each, plan.source) for place, each in self._volumes(to_file=False)]
        begun = self._begun() or _Begun(self._prepared(), plan.deadline, 1)
        moved = self._set_out(begun)
        detached = self._finish(begun.command.vm)
        after = [self._move(place, each, plan.destination) for place, each in self._volumes(to_file=True)]
        return CompletedMigration(
            migration=plan.migration,
            vm=begun.command.vm,
            source=plan.source,
            destination=plan.destination,
            detached=detached,
            downtime_ms=moved.downtime_ms if moved else None,
            total_ms=moved.total_ms if moved else None,
            volumes=before + after,
        )

    def _volumes(self, *, to_file: bool) -> Iterator[tuple[int, MigrateVolume]]:
        for place, each in enumerate(self.plan.volumes):
            if each.vm is None:
                raise ValueError("a volume that moves with its machine needs vm")
            if (each.target is not None) == to_file:
                yield place, each

    def _move(self, place: int, command: MigrateVolume, host: str) -> MigratedVolume:
        self.on_phase(f"move {command.volume or (command.source and command.source.path)}")
        request_id = uuid5(self.plan.migration, f"volume {place}")
        return self.client.call(command, host=host, request_id=request_id, on_progress=self.on_progress)

    def _begun(self) -> "_Begun | None":
        """What an earlier call with this plan has had the machine set out with, last."""
        begun = None
        for number in range(1, MOST_REQUESTS + 1):
            query = QueryCommand(id=self.plan.request(number), details=True)
            try:
                known = self.client.control(query, host=self.plan.source)
            except CommandFailed as error:
                if error.code is ErrorCode.UNKNOWN_REQUEST:
                    break
                raise
            request: dict[str, Any] = (known.details and known.details.request) or {}
            deadline: str | None = request.get("deadline")
            command = MigrateVm.model_validate_json(json.dumps(request.get("body")))
            begun = _Begun(command, datetime.fromisoformat(deadline) if deadline else None, number)
        return begun

    def _prepared(self) -> MigrateVm:
        plan = self.plan
        self.on_phase(f"look at {plan.vm}")
        machine = self.client.call(DescribeMachine(vm=plan.vm), host=plan.source)
        wanted = PrepareMigration(
            migration=plan.migration,
            vm=machine.vm,
            name=machine.name,
            source=plan.source,
            expires_at=datetime.now(UTC) + timedelta(seconds=plan.begin_within_s),
            cpu=machine.cpu,
            arch=machine.arch,
            machine_type=machine.machine_type,
            domain_type=cast("Literal['kvm', 'qemu']", machine.domain_type),
            disks=[self._disk(global_id, disk) for global_id, disk in _at_storpool(machine)],
        )
        self.on_phase(f"prepare {plan.destination}")
        try:
            prepared = self.client.call(wanted, host=plan.destination)
        except CommandFailed as error:
            self._take_back(machine.vm, error)
            raise
        return MigrateVm(
            migration=plan.migration,
            vm=machine.vm,
            destination=plan.destination,
            expires_at=prepared.expires_at,
            disks=[f"~{each.global_id}" for each in prepared.disks],
            bandwidth_bytes_s=plan.bandwidth_bytes_s,
            auto_converge=plan.auto_converge,
            downtime_limit_ms=plan.downtime_limit_ms,
        )

    def _disk(self, global_id: str, disk: DescribedDisk) -> MigrationDisk:
        key = self.plan.keys.get(global_id)
        if disk.encrypted != (key is not None):
            said = "is encrypted: give its key" if disk.encrypted else "is not encrypted: it has no key"
            raise ValueError(f"volume {global_id}, {disk.target} of {self.plan.vm}, {said}")
        encryption = None if key is None else Encryption(key=key)
        return MigrationDisk(volume=f"~{global_id}", mode=disk.mode, encryption=encryption)

    def _set_out(self, begun: "_Begun") -> MigratedVm | None:
        """An outcome that is not known is asked for again, with a new id: the source then looks at both hosts.

        So is one that the destination contradicts: what it has may be a copy that stands still, which the source
        removes, or has go on.

        None: the destination says that it has the machine, whatever the source says.
        """
        vm, number = begun.command.vm, begun.number
        while True:
            self.on_phase(f"move {self.plan.vm}")
            try:
                return self.client.call(
                    begun.command,
                    host=self.plan.source,
                    request_id=self.plan.request(number),
                    deadline=begun.deadline,
                    on_progress=self.on_progress,
                )
            except CommandFailed as error:
                last = number == min(begun.number + TRIES, MOST_REQUESTS)
                if error.retry != "uncertain":
                    self._take_back(vm, error)
                    if last:
                        return None
                elif last:
                    raise self._unresolved(vm, f"migrateVm on {self.plan.source}", error) from error
            number += 1

    def _finish(self, vm: str) -> list[str]:
        """Returns what the source has detached."""
        detached: list[str] = []
        for host in (self.plan.destination, self.plan.source):
            self.on_phase(f"finish on {host}")
            try:
                detached = self.client.call(FinishMigration(migration=self.plan.migration, vm=vm), host=host).detached
            except CommandFailed as error:
                raise self._unresolved(vm, f"finishMigration on {host}", error) from error
        return detached

    def _take_back(self, vm: str, cause: CommandFailed) -> None:
        """On the destination first: when it has let go of the disks, the machine can only be the source's.

        Returns when the destination says that the machine is there, as after a lost answer; else raises.
        """
        for host in (self.plan.destination, self.plan.source):
            self.on_phase(f"roll back on {host}")
            try:
                self.client.call(RollbackMigration(migration=self.plan.migration, vm=vm), host=host)
            except CommandFailed as error:
                if host == self.plan.destination and error.code is ErrorCode.MIGRATION_COMPLETED:
                    return
                raise self._unresolved(vm, f"{cause}; then rollbackMigration on {host}", error) from cause
        raise MigrationFailed(self.plan.migration, cause) from cause

    def _unresolved(self, vm: str, what: str, error: CommandFailed) -> MigrationUnresolved:
        hosts = (self.plan.source, self.plan.destination)
        return MigrationUnresolved(self.plan.migration, what, error, {host: self._seen(vm, host) for host in hosts})

    def _seen(self, vm: str, host: str) -> str:
        try:
            return self.client.call(DescribeMachine(vm=vm), host=host, timeout_s=LOOK_S).state
        except CommandFailed as error:
            return error.code
        except CallError as error:
            return f"not known: {error}"


def _at_storpool(machine: DescribedMachine) -> Iterator[tuple[str, DescribedDisk]]:
    """Raises ValueError for a disk that the destination cannot have."""
    for disk in machine.disks:
        if disk.global_id is not None:
            yield disk.global_id, disk
        elif disk.device in {"disk", "lun"}:
            raise ValueError(
                f"{disk.target} of {machine.name} is {disk.path or 'no file or device'}, not at StorPool: "
                "name it in volumes, to be moved there before"
            )
