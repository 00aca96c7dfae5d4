# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The BlockHash of a disk (storpool_commands.images): `blocks FD direct|cached SIZE BYTES_S NODE KEY`, BYTES_S 0
for no limit, NODE empty for a raw one, KEY the descriptor of the passphrase of an encrypted one, else empty.

Several threads read and hash, which both run without the interpreter's lock. Zeroes are not hashed, and not even
read where it is known that they are some.
"""

import ctypes
import hashlib
import mmap
import os
import sys
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Protocol

from storpool_agent.images.worker.files import CannotRead, RawFile, aligned_buffer
from storpool_agent.images.worker.say import ending, say

BLOCK_BYTES = 1 << 20
DIGEST_BYTES = 32
THREADS = 4
"""Two cannot keep a device and two cores busy; more than four gain nothing."""
REPORT_BYTES, REPORT_S = 32 << 20, 1.0
"""Whichever comes first: what says nothing for long is taken for stalled."""
_SAMPLE_BYTES = 16

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Reader(Protocol):
    def read(self, buffer: mmap.mmap, offset: int, length: int) -> None: ...


class Disk(Protocol):
    size_bytes: int

    def reader(self) -> Reader: ...

    def next_data(self, offset: int) -> int: ...


class BlockHash:
    """The digests of all blocks; zeroes until proven otherwise."""

    def __init__(self, disk: Disk, size_bytes: int, report: Callable[[int], None], bytes_s: int = 0) -> None:
        """`bytes_s`: read data no faster than that; what reads as zeroes does not count. 0: no limit."""
        self._disk, self._size_bytes, self._report, self._bytes_s = disk, size_bytes, report, bytes_s
        self._free_at = monotonic()
        blocks, last_bytes = divmod(size_bytes, BLOCK_BYTES)
        self._digests = bytearray(_of_zeroes(BLOCK_BYTES) * blocks)
        if last_bytes:
            self._digests += _of_zeroes(last_bytes)
        self._next, self._done, self._reported = 0, 0, 0
        self._reported_at = monotonic()
        self._mutex = threading.Lock()
        self._failure: BaseException | None = None

    def digest(self) -> str:
        threads = [threading.Thread(target=self._work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        self._report(self._size_bytes)
        return hashlib.sha256(self._digests).hexdigest()

    def _work(self) -> None:
        try:
            reader, buffer = self._disk.reader(), aligned_buffer(BLOCK_BYTES)
            while self._failure is None and (offset := self._claim()) < self._size_bytes:
                length = min(BLOCK_BYTES, self._size_bytes - offset)
                reader.read(buffer, offset, length)
                if not all_zero(buffer, length):
                    place = offset // BLOCK_BYTES * DIGEST_BYTES
                    with memoryview(buffer) as view:
                        self._digests[place : place + DIGEST_BYTES] = hashlib.sha256(view[:length]).digest()
                    self._pace(length)
                self._count(length)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self._failure = self._failure or error

    def _claim(self) -> int:
        """The next block that may have anything but zeroes."""
        with self._mutex:
            if self._next >= self._size_bytes:
                return self._size_bytes
            data = self._disk.next_data(self._next)
            offset = min(data, self._size_bytes)
            if offset < self._size_bytes:
                offset -= offset % BLOCK_BYTES
            self._counted(offset - self._next)
            self._next = offset + BLOCK_BYTES
            return offset

    def _count(self, length: int) -> None:
        with self._mutex:
            self._counted(length)

    def _pace(self, length: int) -> None:
        """Wait until the limit allows more to be read."""
        if not self._bytes_s:
            return
        with self._mutex:
            self._free_at = max(self._free_at, monotonic()) + length / self._bytes_s
            wait_s = self._free_at - monotonic()
        sleep(max(0.0, wait_s))

    def _counted(self, length: int) -> None:
        self._done += length
        now = monotonic()
        if self._done - self._reported >= REPORT_BYTES or now - self._reported_at >= REPORT_S:
            self._reported, self._reported_at = self._done, now
            self._report(self._done)


def all_zero(buffer: mmap.mmap, length: int) -> bool:
    """Each byte is like the one a sample before it, and the sample is zeroes. Data ends the comparison at once."""
    if length <= _SAMPLE_BYTES:
        return not any(buffer[:length])
    if any(buffer[:_SAMPLE_BYTES]):
        return False
    start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    return bool(_memcmp(start, start + _SAMPLE_BYTES, length - _SAMPLE_BYTES) == 0)


def _of_zeroes(length: int) -> bytes:
    return hashlib.sha256(bytes(length)).digest()


def main(descriptor: str, access: str, size: str, bytes_s: str, node: str, key: str) -> None:
    direct, size_bytes = access == "direct", int(size)
    disk: Disk
    if node:
        from storpool_agent.images.worker.served import Served  # noqa: PLC0415 - a raw disk needs no sockets

        disk = Served(int(descriptor), node, key, direct=direct, connections=THREADS)
    else:
        disk = RawFile(int(descriptor), direct=direct)
    if size_bytes > disk.size_bytes:
        raise CannotRead(disk.size_bytes, f"it ends there, {size_bytes} bytes were to be read")
    say("digest", BlockHash(disk, size_bytes, lambda done: say("done", done), int(bytes_s)).digest())


if __name__ == "__main__":
    with ending():
        main(*sys.argv[1:])
    os._exit(0)
