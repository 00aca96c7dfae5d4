# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The digest of a file as it is: `whole FD direct|cached ALGORITHM`. One thread reads ahead of the one that hashes."""

import hashlib
import mmap
import queue
import sys
import threading

from storpool_agent.images.worker.files import RawFile, aligned_buffer
from storpool_agent.images.worker.say import ending, say

CHUNK_BYTES = 4 << 20
BUFFERS = 3
REPORT_CHUNKS = 8

Filled = tuple[mmap.mmap, int]


def main(descriptor: str, access: str, algorithm: str) -> None:
    file = RawFile(int(descriptor), direct=access == "direct")
    say("of", file.length_bytes)
    free: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
    filled: queue.SimpleQueue[Filled | BaseException] = queue.SimpleQueue()
    for _ in range(BUFFERS):
        free.put(aligned_buffer(CHUNK_BYTES))
    threading.Thread(target=_read, args=(file, free, filled), daemon=True).start()
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for number in range(-(-file.length_bytes // CHUNK_BYTES)):
        chunk = filled.get()
        if isinstance(chunk, BaseException):
            raise chunk
        with memoryview(chunk[0]) as view:
            digest.update(view[: chunk[1]])
        free.put(chunk[0])
        if number % REPORT_CHUNKS == 0:
            say("done", number * CHUNK_BYTES + chunk[1])
    say("done", file.length_bytes)
    say("digest", digest.hexdigest())


def _read(
    file: RawFile, free: "queue.SimpleQueue[mmap.mmap]", filled: "queue.SimpleQueue[Filled | BaseException]"
) -> None:
    try:
        for offset in range(0, file.length_bytes, CHUNK_BYTES):
            buffer = free.get()
            length = min(CHUNK_BYTES, file.length_bytes - offset)
            file.read(buffer, offset, length)
            filled.put((buffer, length))
    except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for it
        filled.put(error)


if __name__ == "__main__":
    with ending():
        main(*sys.argv[1:])
