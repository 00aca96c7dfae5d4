# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every command in one class, by what somebody who may send it can do. A host may allow a sender some of them."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, get_args

from storpool_commands import catalogue
from storpool_commands.catalogue import Command, ControlCommand, CopyCommand
from storpool_commands.control import (
    CancelCommand,
    Drain,
    GetAgentStatus,
    GetDriftReport,
    ListAttachments,
    ListCommands,
    Ping,
    QueryCommand,
    SetLogLevel,
)
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DisconnectPhysicalDisk,
    DisconnectPhysicalDiskByPath,
    GetPhysicalDisk,
    SetDiskQos,
    StorpoolResize,
)
from storpool_commands.explaining import ExplainVolume
from storpool_commands.migration import (
    DescribeMachine,
    FinishMigration,
    MigrateVm,
    PrepareMigration,
    RollbackMigration,
)
from storpool_commands.pools import AddStoragePool, GetHostInfo, GetPoolStats, RemoveStoragePool
from storpool_commands.snapshots import DeleteSnapshot, DeleteTemplate, RevertSnapshot, TakeSnapshot
from storpool_commands.tags import StorPoolCreateTags, StorPoolDeleteTags
from storpool_commands.vm_snapshots import DeleteVmSnapshot, RevertVmSnapshot, TakeVmSnapshot
from storpool_commands.volumes import (
    CreateVolume,
    CreateVolumeFromSnapshot,
    CreateVolumeFromTemplate,
    DeleteVolume,
    FenceVolumes,
    SetQosTier,
    UpdateVolume,
)

ReadCommand = (
    Ping
    | GetPhysicalDisk
    | DescribeMachine
    | GetPoolStats
    | GetHostInfo
    | QueryCommand
    | ListCommands
    | ListAttachments
    | GetDriftReport
    | GetAgentStatus
    | ExplainVolume
)
AttachCommand = (
    ConnectPhysicalDisk | DisconnectPhysicalDisk | DisconnectPhysicalDiskByPath | AttachDisk | DetachDisk | SetDiskQos
)
VolumeCommand = (
    CreateVolume
    | CreateVolumeFromTemplate
    | CreateVolumeFromSnapshot
    | DeleteVolume
    | UpdateVolume
    | StorpoolResize
    | SetQosTier
    | StorPoolCreateTags
    | StorPoolDeleteTags
)
SnapshotCommand = (
    TakeSnapshot
    | DeleteSnapshot
    | RevertSnapshot
    | DeleteTemplate
    | TakeVmSnapshot
    | RevertVmSnapshot
    | DeleteVmSnapshot
)
MigrationCommand = PrepareMigration | MigrateVm | FinishMigration | RollbackMigration
PoolCommand = AddStoragePool | RemoveStoragePool
AgentCommand = CancelCommand | Drain | SetLogLevel


class CommandClass(StrEnum):
    """What a sender may be allowed, as the settings of a host spell it."""

    READ = "read"
    """Changes nothing. `queryCommand` also shows the replies that others were given."""
    ATTACH = "attach"
    VOLUMES = "volumes"
    SNAPSHOTS = "snapshots"
    COPIES = "copies"
    """Reads and writes secondary storage, too."""
    MIGRATION = "migration"
    """Moves running machines to the hosts that the settings name."""
    FENCE = "fence"
    """Takes volumes from every host, by force."""
    POOLS = "pools"
    """Other clusters, with their tokens."""
    CONTROL = "control"
    """The agent itself, and the requests of others: `cancelCommand`, `drain`, `setLogLevel`."""


def class_of(command: Command | ControlCommand) -> CommandClass:  # noqa: PLR0911 - a table
    """The one class of a command."""
    if isinstance(command, ReadCommand):
        return CommandClass.READ
    if isinstance(command, AttachCommand):
        return CommandClass.ATTACH
    if isinstance(command, VolumeCommand):
        return CommandClass.VOLUMES
    if isinstance(command, SnapshotCommand):
        return CommandClass.SNAPSHOTS
    if isinstance(command, CopyCommand):
        return CommandClass.COPIES
    if isinstance(command, MigrationCommand):
        return CommandClass.MIGRATION
    if isinstance(command, FenceVolumes):
        return CommandClass.FENCE
    if isinstance(command, PoolCommand):
        return CommandClass.POOLS
    _rest: AgentCommand = command  # a type error here is a command without a class
    return CommandClass.CONTROL


def _names(kinds: Iterable[Any]) -> frozenset[str]:
    return frozenset(kind.model_fields["command"].default for kind in kinds)


COMMANDS_OF: Mapping[CommandClass, frozenset[str]] = MappingProxyType(
    {
        CommandClass.READ: _names(get_args(ReadCommand)),
        CommandClass.ATTACH: _names(get_args(AttachCommand)),
        CommandClass.VOLUMES: _names(get_args(VolumeCommand)),
        CommandClass.SNAPSHOTS: _names(get_args(SnapshotCommand)),
        CommandClass.COPIES: _names(get_args(CopyCommand)),
        CommandClass.MIGRATION: _names(get_args(MigrationCommand)),
        CommandClass.FENCE: _names([FenceVolumes]),
        CommandClass.POOLS: _names(get_args(PoolCommand)),
        CommandClass.CONTROL: _names(get_args(AgentCommand)),
    }
)
"""The names on the wire of each class."""

ALL_COMMANDS = _names(
    [*get_args(get_args(catalogue.Command)[0]), *get_args(get_args(catalogue.ControlCommand)[0])],
)
"""The names on the wire of all commands, those of the control queue too."""
