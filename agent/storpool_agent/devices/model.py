# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A device as it was when it was looked at."""

from dataclasses import dataclass

from storpool_commands.disks import Mode


@dataclass(frozen=True)
class Device:
    """A block device behind a StorPool link, opened once to read this."""

    link: str
    node: str
    """Where the link leads, such as `/dev/sp-3`."""
    number: int
    """st_rdev: what an opener's file descriptor is compared with."""
    sequence: int
    """DISKSEQ: the kernel never gives two devices of one boot the same, unlike names and numbers."""
    size_bytes: int
    mode: Mode
