# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""takeVMSnapshot, revertVMSnapshot, deleteVMSnapshot."""

from storpool_agent.attempt import Attempt
from storpool_agent.host import Host
from storpool_commands.vm_snapshots import (
    DeletedVmSnapshot,
    DeleteVmSnapshot,
    RevertedVmSnapshot,
    RevertVmSnapshot,
    TakenVmSnapshot,
    TakeVmSnapshot,
)


def take(command: TakeVmSnapshot, host: Host, attempt: Attempt) -> TakenVmSnapshot:
    """Take snapshots of all volumes at one moment."""
    raise NotImplementedError


def revert(command: RevertVmSnapshot, host: Host, attempt: Attempt) -> RevertedVmSnapshot:
    """Give all volumes the data of their snapshots."""
    raise NotImplementedError


def delete(command: DeleteVmSnapshot, host: Host, attempt: Attempt) -> DeletedVmSnapshot:
    """Delete all snapshots."""
    raise NotImplementedError
