# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Files of this host that have no name, for downloads and what is unpacked."""

import os
import tempfile
from pathlib import Path

from storpool_agent.errors import ScratchFull

DIRECTORY_MODE = 0o700


def new(directory: Path, owner: str) -> int:
    """An empty file, open for reading and writing, that is gone when the last descriptor of it is closed.

    A child opens it anew as /proc/self/fd/N, also with O_DIRECT where the file system has that. Raises ScratchFull.
    """
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        # O_TMPFILE; on a file system that lacks it, a file that is unlinked at once.
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise ScratchFull(
            f"no file can be made in {directory} (secondary.scratch_dir): {error.strerror}",
            path=str(directory),
            owner=owner,
        ) from error
