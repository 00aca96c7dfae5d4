# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What StorPool, the host's kernel and the guest's kernel each say of a volume: asked, not inferred."""

import os
import stat
from pathlib import Path

from agent_process import Stack
from devcluster_process import ApiError
from guest import Guest

SECTOR_BYTES = 512
SERIAL_SHOWN = 20  # virtio-blk tells the guest no more of a serial


def storpool_says(stack: Stack, global_id: str) -> str:
    try:
        [volume] = stack.storpool.call("GET", f"Volume/~{global_id}")
    except ApiError as error:
        return "[dim]no such volume[/]" if error.name == "objectDoesNotExist" else f"[red]{error.name}[/]"
    attached = [f"{rights} on client {client}" for client, rights in stack.attachments(f"~{global_id}")]
    return f"{size(volume['size'])}, {', '.join(attached) or 'not attached'}"


def host_says(stack: Stack, global_id: str) -> str:
    """Link, node, and the size that the kernel has for it."""
    link = stack.link(global_id)
    try:
        node, status = link.readlink(), link.stat()
        sectors = Path(f"/sys/dev/block/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}/size").read_text()
    except FileNotFoundError:
        return "[dim]no device[/]"
    kind = "" if stat.S_ISBLK(status.st_mode) else " (no block device)"
    return f"{node.name}{kind}, {size(int(sectors) * SECTOR_BYTES)}"


def guest_says(guest: Guest, global_id: str) -> str:
    """By the serial, which the agent sets to the volume's id."""
    for disk in guest.disks().values():
        if disk.serial == global_id[:SERIAL_SHOWN]:
            return f"{disk.name}, {size(disk.size_bytes)}"
    return "[dim]no such disk[/]"


def size(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):g} MiB"
