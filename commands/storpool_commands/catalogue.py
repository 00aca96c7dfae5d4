# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every command and every result, on one page."""

from typing import Annotated

from pydantic import Field

from storpool_commands.control import (
    AgentStatus,
    CancelCommand,
    CancelledCommand,
    Drain,
    Drained,
    DriftReport,
    GetAgentStatus,
    GetDriftReport,
    ListAttachments,
    ListCommands,
    ListedAttachments,
    ListedCommands,
    LogLevelSet,
    Ping,
    Pong,
    QueriedCommand,
    QueryCommand,
    SetLogLevel,
)
from storpool_commands.copies import (
    BackedUpSnapshot,
    BackupSnapshot,
    CopiedVolume,
    CopyVolumeToSecondary,
    CreateTemplateFromSnapshot,
    CreateTemplateFromVolume,
    DownloadedTemplate,
    DownloadedVolume,
    DownloadTemplate,
    DownloadVolume,
    MigratedVolume,
    MigrateVolume,
    TemplateFromSnapshot,
    TemplateFromVolume,
)
from storpool_commands.disks import (
    AttachDisk,
    AttachedDisk,
    ConnectedDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DetachedDisk,
    DisconnectedDisk,
    DisconnectedDiskByPath,
    DisconnectPhysicalDisk,
    DisconnectPhysicalDiskByPath,
    DiskQos,
    GetPhysicalDisk,
    PhysicalDisk,
    ResizedVolume,
    SetDiskQos,
    StorpoolResize,
)
from storpool_commands.dry_run import DryRun
from storpool_commands.encrypting import EncryptedVolume, EncryptVolume
from storpool_commands.explaining import ExplainedVolume, ExplainVolume
from storpool_commands.migration import (
    DescribedMachine,
    DescribeMachine,
    FinishedMigration,
    FinishMigration,
    MigratedVm,
    MigrateVm,
    PreparedMigration,
    PrepareMigration,
    RollbackMigration,
    RolledBackMigration,
)
from storpool_commands.pools import (
    AddedStoragePool,
    AddStoragePool,
    GetHostInfo,
    GetPoolStats,
    HostInfo,
    PoolStats,
    RemovedStoragePool,
    RemoveStoragePool,
)
from storpool_commands.snapshots import (
    DeletedSnapshot,
    DeletedTemplate,
    DeleteSnapshot,
    DeleteTemplate,
    RevertedVolume,
    RevertSnapshot,
    TakenSnapshot,
    TakeSnapshot,
)
from storpool_commands.tags import (
    CreatedTags,
    DeletedTags,
    StorPoolCreateTags,
    StorPoolDeleteTags,
)
from storpool_commands.vm_snapshots import (
    DeletedVmSnapshot,
    DeleteVmSnapshot,
    RevertedVmSnapshot,
    RevertVmSnapshot,
    TakenVmSnapshot,
    TakeVmSnapshot,
)
from storpool_commands.volumes import (
    CreatedVolume,
    CreatedVolumeFromSnapshot,
    CreatedVolumeFromTemplate,
    CreateVolume,
    CreateVolumeFromSnapshot,
    CreateVolumeFromTemplate,
    DeletedVolume,
    DeleteVolume,
    FencedVolumes,
    FenceVolumes,
    QosTierSet,
    SetQosTier,
    UpdatedVolume,
    UpdateVolume,
)

Command = Annotated[
    ConnectPhysicalDisk
    | DisconnectPhysicalDisk
    | DisconnectPhysicalDiskByPath
    | AttachDisk
    | DetachDisk
    | StorpoolResize
    | GetPhysicalDisk
    | SetDiskQos
    | CreateVolume
    | CreateVolumeFromTemplate
    | CreateVolumeFromSnapshot
    | DeleteVolume
    | UpdateVolume
    | SetQosTier
    | FenceVolumes
    | TakeSnapshot
    | DeleteSnapshot
    | RevertSnapshot
    | DeleteTemplate
    | StorPoolCreateTags
    | StorPoolDeleteTags
    | TakeVmSnapshot
    | RevertVmSnapshot
    | DeleteVmSnapshot
    | DownloadTemplate
    | BackupSnapshot
    | CreateTemplateFromVolume
    | CreateTemplateFromSnapshot
    | CopyVolumeToSecondary
    | DownloadVolume
    | MigrateVolume
    | DescribeMachine
    | PrepareMigration
    | MigrateVm
    | FinishMigration
    | RollbackMigration
    | EncryptVolume
    | AddStoragePool
    | RemoveStoragePool
    | GetPoolStats
    | GetHostInfo
    | Ping,
    Field(discriminator="command"),
]
"""What a host's queue takes."""

CopyCommand = (
    DownloadTemplate
    | BackupSnapshot
    | CreateTemplateFromVolume
    | CreateTemplateFromSnapshot
    | CopyVolumeToSecondary
    | DownloadVolume
    | MigrateVolume
    | EncryptVolume
)
"""Those that read and write disks."""

BulkCommand = CopyCommand | MigrateVm
"""Those that move data, which takes minutes: the host runs them in a lane of their own."""

AnyCommand = Annotated[
    CreateVolume
    | CreateVolumeFromTemplate
    | CreateVolumeFromSnapshot
    | DeleteVolume
    | UpdateVolume
    | SetQosTier
    | FenceVolumes
    | TakeSnapshot
    | DeleteSnapshot
    | RevertSnapshot
    | DeleteTemplate
    | StorPoolCreateTags
    | StorPoolDeleteTags,
    Field(discriminator="command"),
]
"""What the queue of all hosts takes: commands that touch the StorPool API alone."""

ControlCommand = Annotated[
    Ping
    | QueryCommand
    | ListCommands
    | CancelCommand
    | ListAttachments
    | GetDriftReport
    | Drain
    | SetLogLevel
    | GetAgentStatus
    | ExplainVolume,
    Field(discriminator="command"),
]
"""What a host's control queue takes."""

Result = Annotated[
    ConnectedDisk
    | DisconnectedDisk
    | DisconnectedDiskByPath
    | AttachedDisk
    | DetachedDisk
    | ResizedVolume
    | PhysicalDisk
    | DiskQos
    | CreatedVolume
    | CreatedVolumeFromTemplate
    | CreatedVolumeFromSnapshot
    | DeletedVolume
    | UpdatedVolume
    | QosTierSet
    | FencedVolumes
    | TakenSnapshot
    | DeletedSnapshot
    | RevertedVolume
    | DeletedTemplate
    | CreatedTags
    | DeletedTags
    | TakenVmSnapshot
    | RevertedVmSnapshot
    | DeletedVmSnapshot
    | DownloadedTemplate
    | BackedUpSnapshot
    | TemplateFromVolume
    | TemplateFromSnapshot
    | CopiedVolume
    | DownloadedVolume
    | MigratedVolume
    | DescribedMachine
    | PreparedMigration
    | MigratedVm
    | FinishedMigration
    | RolledBackMigration
    | EncryptedVolume
    | AddedStoragePool
    | RemovedStoragePool
    | PoolStats
    | HostInfo
    | Pong
    | QueriedCommand
    | ListedCommands
    | CancelledCommand
    | ListedAttachments
    | DriftReport
    | Drained
    | LogLevelSet
    | AgentStatus
    | ExplainedVolume
    | DryRun,
    Field(discriminator="command"),
]
"""What a success carries."""
