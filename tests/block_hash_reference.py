# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The BlockHash of the contract (storpool_commands.images), as short as it can be said."""

from hashlib import sha256

BLOCK_BYTES = 1 << 20


def block_hash(contents: bytes) -> str:
    """Of all the contents of a disk."""
    blocks = (contents[at : at + BLOCK_BYTES] for at in range(0, len(contents), BLOCK_BYTES))
    return "sha256-1m:" + sha256(b"".join(sha256(block).digest() for block in blocks)).hexdigest()
