# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""takeSnapshot, deleteSnapshot, deleteTemplate, revertSnapshot."""

from storpool_agent.attempt import Attempt
from storpool_agent.host import Host
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


def take(command: TakeSnapshot, host: Host, attempt: Attempt) -> TakenSnapshot:
    """Take a snapshot, once for a request."""
    raise NotImplementedError


def delete(command: DeleteSnapshot, host: Host, attempt: Attempt) -> DeletedSnapshot:
    """Delete a snapshot that is attached nowhere."""
    raise NotImplementedError


def delete_template(command: DeleteTemplate, host: Host, attempt: Attempt) -> DeletedTemplate:
    """Delete the snapshot of a template."""
    raise NotImplementedError


def revert(command: RevertSnapshot, host: Host, attempt: Attempt) -> RevertedVolume:
    """Give a volume the data of a snapshot."""
    raise NotImplementedError
