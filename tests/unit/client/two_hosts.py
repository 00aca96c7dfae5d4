# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Two hosts that one machine moves between, as far as a driver of its migration sees them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, Unpack, cast
from uuid import UUID, uuid4

from storpool_commands import topology
from storpool_commands.client.errors import CommandFailed
from storpool_commands.client.request import Options, Terms, encode
from storpool_commands.control import CommandDetails, CommandStatus, QueriedCommand, QueryCommand
from storpool_commands.copies import MigratedVolume, MigrateVolume
from storpool_commands.envelope import Failure
from storpool_commands.errors import ErrorCode, retry_class
from storpool_commands.migration import (
    DescribedDisk,
    DescribedMachine,
    DescribeMachine,
    FinishedMigration,
    FinishMigration,
    MigratedVm,
    MigrateVm,
    PreparedDisk,
    PreparedMigration,
    PrepareMigration,
    RollbackMigration,
    RolledBackMigration,
)
from storpool_commands.wire import CommandModel

VM = "6f1d8a60-2a51-4a0e-9a37-0b6a9a1f2c3d"
ROOT = "a.b.root"
R = TypeVar("R")


class TwoHosts:
    """`a` and `b`. A request with an id that was seen is answered as it was. `breaks` maps a host's command to the code
    that it fails with; `after` to what it fails with once, when it has been done."""

    def __init__(self) -> None:
        self.runs_on = "a"
        self.attached: dict[str, set[str]] = {"a": {ROOT}, "b": set()}
        self.sent: list[tuple[str, str]] = []
        self.breaks: dict[tuple[str, str], ErrorCode] = {}
        self.after: dict[tuple[str, str], ErrorCode] = {}
        self.dies_before: tuple[str, str] | None = None
        """The driver's own end: KeyboardInterrupt."""
        self.disks = [disk(global_id=ROOT)]
        self._seen: dict[UUID, tuple[bytes, Any]] = {}

    def call(self, command: CommandModel[R], *, host: str, **options: Unpack[Options]) -> R:
        terms = Terms(**options)
        request_id = terms.request_id or uuid4()
        body = encode(command, request_id, topology.COMMANDS, terms)
        name: str = type(command).model_fields["command"].default
        if self.dies_before == (host, name):
            raise KeyboardInterrupt
        self.sent.append((host, name))
        if request_id not in self._seen:
            self._seen[request_id] = (body, self._outcome(host, name, command))
        stored, outcome = self._seen[request_id]
        assert stored == body, "id-conflict"
        if isinstance(outcome, CommandFailed):
            raise outcome
        return cast("R", outcome)

    def control(self, command: CommandModel[R], *, host: str, **_: Unpack[Options]) -> R:
        assert (host, type(command)) == ("a", QueryCommand)
        request_id = cast("QueryCommand", command).id
        if request_id not in self._seen:
            raise failed(ErrorCode.UNKNOWN_REQUEST)
        request = json.loads(self._seen[request_id][0])
        now = datetime.now(UTC)
        status = CommandStatus(id=request_id, body_command="migrateVm", state="running", received_at=now, attempts=1)
        details = CommandDetails(
            request=request,
            publisher=None,
            reply_to=[],
            unsent_replies=0,
            shared=False,
            stops=0,
            notes=[],
            temporaries=[],
        )
        return cast("R", QueriedCommand(status=status, reply=None, details=details))

    def _outcome(self, host: str, name: str, command: CommandModel[Any]) -> Any:
        if code := self.breaks.get((host, name)):
            return failed(code)
        try:
            done = self._done(host, command)
        except CommandFailed as error:
            return error
        return failed(self.after.pop((host, name))) if (host, name) in self.after else done

    def _done(self, host: str, command: CommandModel[Any]) -> Any:
        match command:
            case DescribeMachine():
                self._need(self.runs_on == host, ErrorCode.VM_NOT_FOUND)
                return machine(self.disks)
            case PrepareMigration():
                self.attached[host] |= {each.volume[1:] for each in command.disks}
                disks = [
                    PreparedDisk(global_id=one, path=f"/dev/storpool-byid/{one}", attached_now=True)
                    for one in sorted(self.attached[host])
                ]
                return PreparedMigration(
                    migration=command.migration,
                    vm=command.vm,
                    disks=disks,
                    expires_at=command.expires_at,
                    libvirt_version="9.0.0",
                    qemu_version="7.2.0",
                )
            case MigrateVm():
                self._need(self.attached["b"] >= {each[1:] for each in command.disks}, ErrorCode.MIGRATION_FAILED)
                self.runs_on = command.destination
                return MigratedVm(
                    migration=command.migration,
                    vm=command.vm,
                    destination=command.destination,
                    moved_now=True,
                    memory_bytes=1,
                    downtime_ms=7,
                    total_ms=70,
                )
            case FinishMigration():
                self._need(self.runs_on == "b", ErrorCode.MIGRATION_UNKNOWN)
                return self._ended(FinishedMigration, host, command, keeps="b")
            case RollbackMigration():
                self._need(self.runs_on == "a", ErrorCode.MIGRATION_COMPLETED)
                return self._ended(RolledBackMigration, host, command, keeps="a")
            case MigrateVolume():
                if command.target is None:
                    self.disks = [disk(global_id=ROOT)]
                return MigratedVolume(
                    method="live",
                    volume=ROOT,
                    path="",
                    size_bytes=1,
                    source_deleted=False,
                    virtual_size_bytes=1,
                    block_hash=None,
                    copies=1,
                )
            case _:
                raise AssertionError(command)

    def _ended(self, answer: Callable[..., R], host: str, command: Any, *, keeps: str) -> R:
        gone = [] if host == keeps else sorted(self.attached[host])
        if host != keeps:
            self.attached[host] = set()
        role = "source" if host == "a" else "destination"
        return answer(migration=command.migration, vm=command.vm, role=role, detached=gone, attached=[])

    def _need(self, holds: bool, code: ErrorCode) -> None:
        if not holds:
            raise failed(code)


def failed(code: ErrorCode) -> CommandFailed:
    """As a host says it."""
    reply = Failure(
        id=uuid4(),
        host="h",
        code=code,
        message=f"because of {code}",
        retry=retry_class(code),
        side_effects="none",
        steps=[],
        took_ms=1,
    )
    return CommandFailed(reply)


def disk(*, global_id: str | None, encrypted: bool = False, device: str = "disk") -> DescribedDisk:
    path = f"/dev/storpool-byid/{global_id}" if global_id else "/vms/a.qcow2"
    return DescribedDisk(
        target="vda",
        global_id=global_id,
        path=path,
        format="raw",
        mode="rw",
        encrypted=encrypted,
        device=device,
        cache="none",
    )


def machine(disks: list[DescribedDisk]) -> DescribedMachine:
    return DescribedMachine(
        vm=VM,
        name="m",
        state="running",
        persistent=True,
        cpu="<cpu mode='custom'/>",
        arch="x86_64",
        machine_type="pc-q35-7.2",
        domain_type="qemu",
        memory_bytes=1,
        vcpus=1,
        disks=disks,
    )
