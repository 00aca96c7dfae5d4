# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the guest's `write` command puts on a disk, computed on the host to compare with."""

import hashlib

MIB = 1 << 20


def pattern(offset_mib: int, count_mib: int, seed: str) -> bytes:
    """The same bytes as `pattern` in `init`."""
    return b"".join(_mib(f"{seed}:{mib}\n".encode()) for mib in range(offset_mib, offset_mib + count_mib))


def pattern_checksum(offset_mib: int, count_mib: int, seed: str) -> str:
    """What the guest's `checksum` answers for a range that its `write` filled."""
    return hashlib.sha256(pattern(offset_mib, count_mib, seed)).hexdigest()


def _mib(line: bytes) -> bytes:
    return (line * (MIB // len(line) + 1))[:MIB]
