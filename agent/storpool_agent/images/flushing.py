# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Having on the storage what was written."""

from storpool_agent.images.child import Command, run
from storpool_agent.images.model import Image, Task

SHORT_S = 600.0
"""There is not much to do, and the storage may be busy."""
FLUSH = ("dd", "if=/dev/null", "conv=notrunc,fsync", "status=none")
"""Writes nothing, and then calls fsync on its stdout."""


def flush(target: Image, task: Task) -> None:
    """Through the descriptor that was open while the file was written: an error of any earlier flush, which QEMU
    ignores when it closes a file, is told to it as well (errseq_t). In a child, since it may take, or hang.

    Raises as `child.run`.
    """
    run(
        Command(
            FLUSH,
            f"flushing {target.name}",
            output=target.descriptor,
            timeout_s=SHORT_S,
        ),
        task,
    )
