# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Files of this host that have no name, for downloads and what is unpacked."""

import os
import tempfile
from pathlib import Path

from storpool_agent.errors import ScratchFull
from storpool_agent.space import free_bytes

DIRECTORY_MODE = 0o700


def new(directory: Path, owner: str, spare_bytes: int = 0) -> int:
    """An empty file, open for reading and writing, that is gone when the last descriptor of it is closed.

    A child opens it anew as /proc/self/fd/N, also with O_DIRECT where the file system has that. Raises ScratchFull,
    also when less than `spare_bytes` is free: what else is on that file system, such as the journal, needs room, too.
    """
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        if (free := free_bytes(directory)) < spare_bytes:
            raise ScratchFull(
                f"only {free} bytes are free in {directory} (secondary.scratch_dir); copies that need room there begin "
                f"when there are {spare_bytes} (watch.scratch_low_bytes)",
                path=str(directory),
                owner=owner,
                free_bytes=free,
            )
        # O_TMPFILE; on a file system that lacks it, a file that is unlinked at once.
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise ScratchFull(
            f"no file can be made in {directory} (secondary.scratch_dir): {error.strerror}",
            path=str(directory),
            owner=owner,
        ) from error
