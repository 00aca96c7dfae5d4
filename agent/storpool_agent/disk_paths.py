# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From the path that a machine names a disk by to the volume or snapshot that it is."""

import posixpath
from collections.abc import Sequence
from contextlib import suppress

from storpool_agent.deadline import Deadline
from storpool_agent.errors import SnapshotNotFound, VolumeNotFound
from storpool_agent.host import Host
from storpool_commands.references import parse


def directories(host: Host) -> Sequence[str]:
    """Where this host's links are: the parents of any volume's."""
    return sorted({posixpath.dirname(path) for path in host.devices.links("a.b.c", "name")})


def global_id(host: Host, path: str, deadline: Deadline) -> str | None:
    """A path below storpool-byid ends in the global id; one below storpool in `~<global id>` or in a name.

    None for a path elsewhere, and for a name that StorPool does not know.
    """
    parent, last = posixpath.split(path)
    if parent not in directories(host):
        return None
    try:
        reference = parse(f"~{last}" if path == host.devices.link(last) else last)
    except ValueError:
        return None
    if reference.kind == "id":
        return reference.value
    for look in (host.storpool.volume, host.storpool.snapshot):
        with suppress(VolumeNotFound, SnapshotNotFound):
            return look(reference, deadline).global_id
    return None
