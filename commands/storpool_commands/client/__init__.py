# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The management plane's side of the wire: send a command to a host, get its typed result or its typed failure."""

from storpool_commands.client.client import ManagementClient
from storpool_commands.client.endpoint import InvalidUrl, Tls
from storpool_commands.client.errors import (
    BrokerUnreachable,
    CallError,
    ClientClosed,
    CommandFailed,
    HostUnknown,
    MigrationFailed,
    MigrationUnresolved,
    NoReply,
    RequestRefused,
    UnreadableReply,
)
from storpool_commands.client.events import Subscription
from storpool_commands.client.migrating import CompletedMigration, MigrationPlan

__all__ = [
    "BrokerUnreachable",
    "CallError",
    "ClientClosed",
    "CommandFailed",
    "CompletedMigration",
    "HostUnknown",
    "InvalidUrl",
    "ManagementClient",
    "MigrationFailed",
    "MigrationPlan",
    "MigrationUnresolved",
    "NoReply",
    "RequestRefused",
    "Subscription",
    "Tls",
    "UnreadableReply",
]
