# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A file that is written from its start to its end, and keeps no room for zeroes."""

import os
from itertools import groupby

from storpool_agent.images.foreign.reply import write

PIECE_BYTES = 64 * 1024
"""The smallest run of zeroes that becomes a hole: a cluster of qcow2, and of most file systems' larger extents."""
BUFFER_BYTES = 16 * PIECE_BYTES
_ZEROES = bytes(PIECE_BYTES)


class SparseFile:
    """An empty one, given by its descriptor. Its methods raise Refusal (scratch-full)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._flushed = 0
        self.stored = 0
        """Bytes that were written; the others are holes."""

    @property
    def length(self) -> int:
        return self._flushed + len(self._buffer)

    def append(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= BUFFER_BYTES:
            self._flush(len(self._buffer) // PIECE_BYTES * PIECE_BYTES)

    def finish(self) -> None:
        """Zeroes at the end are a hole, too, so the length is set."""
        self._flush(len(self._buffer))
        os.ftruncate(self._descriptor, self._flushed)

    def _flush(self, count: int) -> None:
        for zero, run in groupby(range(0, count, PIECE_BYTES), self._is_zero):
            places = list(run)
            if not zero:
                data = self._buffer[places[0] : min(places[-1] + PIECE_BYTES, count)]
                write(self._descriptor, data, self._flushed + places[0])
                self.stored += len(data)
        del self._buffer[:count]
        self._flushed += count

    def _is_zero(self, place: int) -> bool:
        piece = bytes(self._buffer[place : place + PIECE_BYTES])
        return piece == _ZEROES[: len(piece)]
