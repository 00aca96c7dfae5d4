# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A running machine moves to another host: four commands to two agents, and a look at the machine before.

describeMachine (source), prepareMigration (destination), migrateVm (source), finishMigration (destination, then
source). After a definite failure, or when it is not to be gone on with: rollbackMigration (destination, then source).
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from storpool_commands.disks import Mode
from storpool_commands.encryption import Encryption
from storpool_commands.references import ObjectRef
from storpool_commands.wire import (
    AnswerModel,
    CommandModel,
    Generation,
    HostId,
    TimeoutS,
    Timestamp,
    VmRef,
    WireModel,
)

MAX_DISKS = 64
MAX_XML = 64 * 1024


def _canonical(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("must be the UUID of a machine") from None


MigrationId = UUID
"""Chosen by the sender: all commands of one migration carry it, and a host takes each of them once."""

VmUuid = Annotated[str, Field(min_length=32, max_length=36), AfterValidator(_canonical)]
"""A machine by its UUID: a name may be another machine's on another host."""

MachineName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\n\x00]+$")]
CpuXml = Annotated[str, Field(max_length=MAX_XML, pattern=r"^<cpu[\s/>]")]
"""libvirt's `<cpu>`; it is handed to libvirt, which alone reads it."""
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,100}$")]
Role = Literal["source", "destination"]
MachineState = Literal["running", "paused", "stopped"]


class DescribedDisk(AnswerModel):
    """A disk of a machine, as libvirt has it."""

    target: str
    global_id: str | None
    """The volume or snapshot of StorPool; null when the disk is something else."""
    path: str | None
    """Null for an empty drive, and for one that is reached by network."""
    format: str | None
    mode: Mode
    encrypted: bool
    device: str
    """`disk`, `cdrom`, `floppy` or `lun`."""
    cache: str | None
    """QEMU's cache mode; null when the machine does not say."""


class DescribedMachine(AnswerModel):
    """A machine of this host: what another host has to have for it."""

    command: Literal["describeMachine"] = "describeMachine"
    vm: str
    """Its UUID."""
    name: str
    state: MachineState
    persistent: bool
    cpu: str | None
    """The `<cpu>` that the machine needs wherever it runs, as XML; null when it has none."""
    arch: str
    machine_type: str
    """Such as `pc-q35-7.2`."""
    domain_type: str
    """`kvm`, or `qemu` for software emulation."""
    memory_bytes: int
    vcpus: int
    disks: list[DescribedDisk]


class DescribeMachine(CommandModel[DescribedMachine]):
    """Say what a machine of this host is made of. Changes nothing."""

    command: Literal["describeMachine"] = "describeMachine"
    vm: VmRef


class MigrationDisk(WireModel):
    """A volume that the destination attaches for the machine."""

    volume: ObjectRef
    mode: Mode = "rw"
    generation: Generation | None = None
    encryption: Encryption | None = None
    """Of an encrypted volume: the destination needs its key, too."""


class PreparedDisk(AnswerModel):
    """A volume that is attached to the destination."""

    global_id: str
    path: str
    attached_now: bool
    """This migration attached it, and a rollback detaches it."""


class PreparedMigration(AnswerModel):
    """The destination can take the machine until `expiresAt`."""

    command: Literal["prepareMigration"] = "prepareMigration"
    migration: MigrationId
    vm: str
    disks: list[PreparedDisk]
    expires_at: Timestamp
    libvirt_version: str
    qemu_version: str


class PrepareMigration(CommandModel[PreparedMigration]):
    """On the destination: check that the machine can run here, attach its volumes besides the source, and remember it.

    Repeating it is a success. On failure what it attached is detached again. Until the migration is finished or rolled
    back, other commands on the machine or its volumes are refused on this host (`migration-under-way`).
    """

    command: Literal["prepareMigration"] = "prepareMigration"
    migration: MigrationId
    vm: VmUuid
    name: MachineName
    source: HostId
    """The host that it runs on, for people who look for it."""
    expires_at: Timestamp
    """The machine does not set out after that, and the host complains when it has neither come nor been rolled back."""
    cpu: CpuXml | None = None
    arch: Word = "x86_64"
    machine_type: Word | None = None
    domain_type: Literal["kvm", "qemu"] = "kvm"
    """These four as `describeMachine` says."""
    disks: Annotated[list[MigrationDisk], Field(max_length=MAX_DISKS)]
    """Every volume of StorPool's that the machine has."""
    timeout_s: TimeoutS = 60
    """For all of it."""

    @model_validator(mode="after")
    def _each_once(self) -> "PrepareMigration":
        if len({one.volume for one in self.disks}) != len(self.disks):
            raise ValueError("a volume is named twice")
        return self


class MigratedVm(AnswerModel):
    """The machine runs on the destination, and no longer on this host, which still has its volumes attached."""

    command: Literal["migrateVm"] = "migrateVm"
    migration: MigrationId
    vm: str
    destination: HostId
    moved_now: bool
    """False when it had moved before this command, or this run of it, looked."""
    memory_bytes: int | None
    """That were sent. Null when libvirt did not tell, as the two below."""
    downtime_ms: int | None
    total_ms: int | None


class MigrateVm(CommandModel[MigratedVm]):
    """On the source: have libvirt move the running machine to the destination, where all is prepared.

    Repeating it is a success: one that is under way is watched on, one that has moved is found to have moved. It is
    stopped by `cancelCommand` and by the request's deadline, and the machine then runs here. What cannot be told is
    `migration-unknown`, with what both hosts say in the facts.
    """

    command: Literal["migrateVm"] = "migrateVm"
    migration: MigrationId
    vm: VmUuid
    destination: HostId
    """Where its libvirt is reached is a setting of this host."""
    expires_at: Timestamp
    """As in `prepareMigration`: it is not begun after that."""
    disks: Annotated[list[ObjectRef], Field(max_length=MAX_DISKS)] = []
    """The volumes that the destination has prepared, by global id; a machine that has another one by now is refused."""
    bandwidth_bytes_s: Annotated[int, Field(ge=1 << 20, le=1 << 40)] | None = None
    """Whole MiB: the rest is cut off. Default: as fast as it can."""
    auto_converge: bool = True
    """Slow the guest down when it changes its memory faster than that is sent."""
    downtime_limit_ms: Annotated[int, Field(ge=1, le=60_000)] | None = None
    """How long the guest may stand still at the end. Default: QEMU's, 300."""


class MigrationEnd(AnswerModel):
    """What both ways to end a migration answer."""

    migration: MigrationId
    vm: str
    role: Role | None
    """What this host was to it; null when it had not heard of it."""
    detached: list[str]
    """Global ids of the volumes that this command detached from this host."""
    attached: list[str]
    """Global ids of the machine's volumes that stay attached to this host."""


class FinishedMigration(MigrationEnd):
    """The machine is the destination's."""

    command: Literal["finishMigration"] = "finishMigration"


class FinishMigration(CommandModel[FinishedMigration]):
    """Close a migration that has succeeded: on the destination first, then on the source.

    The destination proves that the machine runs there with all its disks. The source has the destination's libvirt
    prove it, and detaches the volumes; one that is open is refused as `volume-busy`. Repeating it is a success.
    """

    command: Literal["finishMigration"] = "finishMigration"
    migration: MigrationId
    vm: VmUuid
    timeout_s: TimeoutS = 60


class RolledBackMigration(MigrationEnd):
    """The machine is the source's."""

    command: Literal["rollbackMigration"] = "rollbackMigration"


class RollbackMigration(CommandModel[RolledBackMigration]):
    """Take a migration back: on the destination first, then on the source.

    The destination detaches what this migration attached, and nothing else; it refuses when the machine runs there
    (`migration-completed`). The source proves that the machine runs there. After it no other command of the migration
    is taken (`migration-over`), also when none has come yet. Repeating it is a success.
    """

    command: Literal["rollbackMigration"] = "rollbackMigration"
    migration: MigrationId
    vm: VmUuid
    timeout_s: TimeoutS = 60


class SeenMigration(AnswerModel):
    """A migration that is neither finished nor rolled back on this host."""

    migration: MigrationId
    vm: str
    name: str
    role: Role
    peer: HostId
    """The other host."""
    since: Timestamp
    expires_at: Timestamp
    expired: bool
    volumes: list[str]
    """Global ids."""
