# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why a machine does not move to another host, or nobody can tell."""

from storpool_agent.errors import AgentError
from storpool_commands.errors import ErrorCode


class MigrationUnderWay(AgentError):
    """The machine or the volume is about to go to another host, or comes from one."""

    code = ErrorCode.MIGRATION_UNDER_WAY


class MigrationOver(AgentError):
    """It was finished or rolled back: nothing of it begins any more."""

    code = ErrorCode.MIGRATION_OVER


class MigrationCompleted(AgentError):
    """The machine has moved: there is nothing to roll back."""

    code = ErrorCode.MIGRATION_COMPLETED


class MigrationExpired(AgentError):
    code = ErrorCode.MIGRATION_EXPIRED


class MigrationNotFound(AgentError):
    code = ErrorCode.MIGRATION_NOT_FOUND


class MigrationUnknown(AgentError):
    """Where the machine runs cannot be told, or what is seen contradicts itself; the facts have what each host says."""

    code = ErrorCode.MIGRATION_UNKNOWN


class MigrationFailed(AgentError):
    """The machine runs on where it was."""

    code = ErrorCode.MIGRATION_FAILED


class MigrationUnsafe(AgentError):
    """libvirt would not vouch for the data: a disk goes through a cache of this host's."""

    code = ErrorCode.MIGRATION_UNSAFE


class CpuIncompatible(AgentError):
    code = ErrorCode.CPU_INCOMPATIBLE


class DestinationUnreachable(AgentError):
    """The other host's libvirt did not answer, or refused to."""

    code = ErrorCode.DESTINATION_UNREACHABLE
