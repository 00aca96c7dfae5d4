# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Files that are compressed as a whole, unpacked in a child that may not use more than the result can need."""

from storpool_agent.images.delegation import ADDRESS_SPACE_BYTES, Work, delegate
from storpool_agent.images.launch import Limits
from storpool_agent.images.model import Image, Task
from storpool_commands.images import Compression

START_CPU_S = 60
SLOWEST_BYTES_S = 2 << 20  # bzip2 on an old processor unpacks several times as much


def unpack(packed: Image, compression: Compression, target: int, task: Task, *, max_bytes: int) -> None:
    """As Images.unpack says; what is reported are bytes of the packed file."""
    limits = Limits(
        address_space_bytes=ADDRESS_SPACE_BYTES,
        cpu_s=START_CPU_S + max_bytes // SLOWEST_BYTES_S,
        file_bytes=max_bytes,
    )
    source, bandwidth = packed.descriptor, task.bandwidth_bytes_s or 0
    arguments = (str(source), str(target), compression, str(max_bytes), str(bandwidth))
    files = {source: packed.name, target: f"what is unpacked from {packed.name}"}
    delegate(Work("unpacker", arguments, f"unpacking {packed.name}", files, limits), task, task.report)
