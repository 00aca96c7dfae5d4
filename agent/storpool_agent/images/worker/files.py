# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a raw image, a device or a file, past the page cache."""

import errno
import mmap
import os

SECTOR_BYTES = 512
PAGE_BYTES = 4096
"""What direct I/O wants offsets, lengths and memory to be multiples of, at most."""


class CannotRead(Exception):
    """Said in one line on stderr; images.blame knows the words."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"error while reading at byte {offset}: {why}")


class RawFile:
    """Any number of threads may read it, each into a buffer of its own."""

    def __init__(self, descriptor: int, *, direct: bool) -> None:
        flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if direct else 0)
        self._file = os.open(f"/proc/self/fd/{descriptor}", flags)
        self._direct = direct
        self._length = os.lseek(self._file, 0, os.SEEK_END)
        self.size_bytes = -(-self._length // SECTOR_BYTES) * SECTOR_BYTES
        """Of the disk: its last sector is complete, as QEMU sees it."""
        self.length_bytes = self._length
        self._has_holes = True

    def reader(self) -> "RawFile":
        return self

    def close(self) -> None:
        os.close(self._file)

    def next_data(self, offset: int) -> int:
        """Where the next byte is that may not be zero. A device has to be read to find out."""
        if self._has_holes:
            try:
                return os.lseek(self._file, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return self.size_bytes
                self._has_holes = False
        return offset

    def read(self, buffer: mmap.mmap, offset: int, length: int) -> None:
        """Fill the beginning of a page-aligned buffer; `offset` is a multiple of PAGE_BYTES."""
        wanted = min(length, max(self._length - offset, 0))
        got = 0
        with memoryview(buffer) as view:
            while got < wanted:
                begin = got - got % PAGE_BYTES  # a short read may have ended where the next cannot begin
                end = -(-length // PAGE_BYTES) * PAGE_BYTES
                count = self._read_once(view[begin:end], offset + begin)
                if begin + count <= got:
                    raise CannotRead(offset + got, "the file has become shorter")
                got = begin + count
            view[wanted:length] = bytes(length - wanted)
        if not self._direct:
            os.posix_fadvise(self._file, offset, length, os.POSIX_FADV_DONTNEED)

    def _read_once(self, view: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._file, [view], offset)
        except OSError as error:
            raise CannotRead(offset, error.strerror or str(error)) from error


def aligned_buffer(size_bytes: int) -> mmap.mmap:
    """Whole pages; shared, so that a fork under direct I/O does not give the pages to the wrong process."""
    return mmap.mmap(-1, size_bytes)
