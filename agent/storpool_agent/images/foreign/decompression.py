# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Compressed streams, taken apart piece by piece: never more comes out at once than was asked for."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Protocol

from storpool_agent.images.foreign.file import ForeignFile
from storpool_agent.images.foreign.reply import Refusal

INPUT_BYTES = 256 * 1024
OUTPUT_BYTES = 1 << 20
XZ_MEMORY_BYTES = 160 << 20
"""Enough for a dictionary of 128 MiB; `xz -9` uses one of 64 MiB. It is the file that says how much it needs."""


class Decompressor(Protocol):
    """Of one stream, as bz2 and lzma have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Gzip:
    """zlib's decompressor with the manners of the others; it checks CRC and length of each member."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)
        self._full = False
        """The last call gave as much as it was allowed: more may be waiting in zlib's window."""

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail and not self._full

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self._full = len(out) == max_length
        return out


class PackedFile:
    """Everything that is packed in a file: streams one after the other are one (`cat a.xz b.xz`).

    Raises Refusal where the file is damaged, cut off, or has something else behind the streams.
    """

    def __init__(self, file: ForeignFile, compression: str) -> None:
        self._file = file
        self._compression = compression
        self.read = 0
        """Bytes of the file that have been read."""

    def pieces(self) -> Iterator[bytes]:
        """What comes out, at most OUTPUT_BYTES at a time."""
        rest = self._more()
        while rest:
            stream = self._new_stream()
            yield from self._stream(stream, rest)
            rest = self._next_stream(stream.unused_data)

    def _stream(self, stream: Decompressor, data: bytes) -> Iterator[bytes]:
        try:
            while True:
                piece = stream.decompress(data, OUTPUT_BYTES)
                if piece:
                    yield piece
                if stream.eof:
                    return
                data = self._more_or_refuse() if stream.needs_input else b""
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:  # OSError is bz2's for damaged data
            raise Refusal("image-refused", f"it is damaged, or no {self._compression} file: {error}") from error

    def _next_stream(self, rest: bytes) -> bytes:
        """Where the next begins. Zeroes behind a stream are padding (gzip's and xz's manuals), and nothing else is."""
        if self._compression != "bzip2":
            rest = rest.lstrip(b"\0")
            while not rest:
                more = self._more()
                if not more:
                    return b""
                rest = more.lstrip(b"\0")
        return rest or self._more()

    def _more_or_refuse(self) -> bytes:
        data = self._more()
        if not data:
            raise Refusal("image-refused", f"the file is cut off after {self.read} bytes, within the packed data")
        return data

    def _more(self) -> bytes:
        data = self._file.read_some(self.read, INPUT_BYTES)
        self.read += len(data)
        return data

    def _new_stream(self) -> Decompressor:
        match self._compression:
            case "gzip":
                return Gzip()
            case "bzip2":
                return bz2.BZ2Decompressor()
            case _:
                return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
