# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A few bytes of a device, read by a child: storage that hangs holds that, and no thread of the agent."""

import os

from storpool_agent.images import blame, nodes
from storpool_agent.images.child import Command, ToolFailed, output
from storpool_agent.images.launch import Limits
from storpool_agent.images.model import Image, Task

MOST_BYTES = 16 << 20
LIMITS = Limits(address_space_bytes=1 << 30)
TIMEOUT_S = 60.0
_LINE_BYTES = 4096


def read(image: Image, offset: int, length: int, task: Task) -> bytes:
    """See Images.read. From the storage, not from what the kernel has kept of it."""
    os.posix_fadvise(image.descriptor, offset, length, os.POSIX_FADV_DONTNEED)
    place = (f"--skip-bytes={offset}", f"--read-bytes={min(length, MOST_BYTES)}", nodes.path(image))
    command = Command(
        ("od", "-An", "-v", "-tx1", f"-w{_LINE_BYTES}", *place),
        f"reading {image.name}",
        files={image.descriptor: image.name},
        limits=LIMITS,
        timeout_s=TIMEOUT_S,
    )
    try:
        return bytes.fromhex(output(command, task, max_bytes=4 * MOST_BYTES))
    except ToolFailed as failed:
        raise blame.of_reading(failed, image) from failed
