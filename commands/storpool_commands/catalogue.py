# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every command and every result, on one page."""

from typing import Annotated

from pydantic import Field

from storpool_commands.control import (
    CancelCommand,
    CancelledCommand,
    ListCommands,
    ListedCommands,
    Ping,
    Pong,
    QueriedCommand,
    QueryCommand,
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
    GetPhysicalDisk,
    PhysicalDisk,
    ResizedVolume,
    StorpoolResize,
)
from storpool_commands.volumes import CreatedVolume, CreateVolume, DeletedVolume, DeleteVolume

Command = Annotated[
    ConnectPhysicalDisk
    | DisconnectPhysicalDisk
    | DisconnectPhysicalDiskByPath
    | AttachDisk
    | DetachDisk
    | StorpoolResize
    | GetPhysicalDisk
    | CreateVolume
    | DeleteVolume
    | Ping,
    Field(discriminator="command"),
]
"""What a host's queue takes."""

ControlCommand = Annotated[
    Ping | QueryCommand | ListCommands | CancelCommand,
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
    | CreatedVolume
    | DeletedVolume
    | Pong
    | QueriedCommand
    | ListedCommands
    | CancelledCommand,
    Field(discriminator="command"),
]
"""What a success carries."""
