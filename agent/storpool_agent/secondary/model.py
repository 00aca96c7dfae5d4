# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Files on secondary storage."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A file that is being written, under a name of its own beside the one that it is to get."""

    store: str
    path: str
    """Of the file that it is to become."""
    owner: str
    """The request that writes it."""
    descriptor: int
    """Open for reading and writing; closed by `publish`, whatever comes of it, and by `discard_part`."""
