# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A child that decompresses: `unpacker PACKED TARGET COMPRESSION MAX BYTES_S`."""

import sys
from collections.abc import Mapping

from storpool_agent.images.foreign import reply
from storpool_agent.images.foreign.decompression import PackedFile
from storpool_agent.images.foreign.file import ForeignFile
from storpool_agent.images.foreign.reply import Progress, Refusal, Throttle
from storpool_agent.images.foreign.sparse import SparseFile


def unpack(source: int, target: int, compression: str, max_bytes: int, bytes_s: int | None) -> Mapping[str, int]:
    """Into an empty file. Raises Refusal; what it has written by then stays."""
    file = ForeignFile.of(source)
    packed, unpacked = PackedFile(file, compression), SparseFile(target)
    progress, throttle = Progress(file.length), Throttle(bytes_s)
    for piece in packed.pieces():
        if unpacked.length + len(piece) > max_bytes:
            raise Refusal("image-too-large", f"more than {max_bytes} bytes are packed in it", max_size_bytes=max_bytes)
        stored = unpacked.stored
        unpacked.append(piece)
        throttle.moved(unpacked.stored - stored)
        progress.at(packed.read, unpacked.length)
    unpacked.finish()
    return {"bytes": unpacked.length}


if __name__ == "__main__":
    reply.run(
        lambda: unpack(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]) or None)
    )
