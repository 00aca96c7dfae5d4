# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The image tools, as handlers have them (host.Images). Each is a module of its own."""

from collections.abc import Sequence
from pathlib import Path

from storpool_agent.images import convert, fetching, hashing, inspection, luks, reading, unpacking
from storpool_agent.images.fetching import Origins
from storpool_agent.images.model import Image, Look, Task
from storpool_commands.images import Compression


class ImageTools:
    """Without state: any thread may call any method, several at a time."""

    def __init__(
        self,
        allowed_hosts: Sequence[str] = (),
        authorities: Path | None = None,
        iteration_ms: int = luks.ITERATION_MS,
    ) -> None:
        """`allowed_hosts`: names, addresses and networks that downloads may come from though they are not public.
        `authorities`: a file of certificates that sign those of web servers; default: the system's.
        `iteration_ms`: how long it is to take to try a passphrase of what is formatted."""
        self._iteration_ms = iteration_ms
        self._origins = Origins(allowed_hosts, authorities)

    def inspect(self, image: Image, task: Task, *, max_size_bytes: int) -> Look:
        return inspection.inspect(image, task, max_size_bytes=max_size_bytes)

    def create(self, image: Image, size_bytes: int, task: Task) -> None:
        convert.create(image, size_bytes, task)

    def convert(
        self, source: Image, target: Image, task: Task, *, zeroed: bool = False, compress: bool = False
    ) -> None:
        convert.convert(source, target, task, zeroed=zeroed, compress=compress)

    def block_hash(self, image: Image, size_bytes: int, task: Task) -> str:
        return hashing.block_hash(image, size_bytes, task)

    def checksum(self, image: Image, algorithm: str, task: Task) -> str:
        return hashing.checksum(image, algorithm, task)

    def unpack(self, packed: Image, compression: Compression, target: int, task: Task, *, max_bytes: int) -> None:
        unpacking.unpack(packed, compression, target, task, max_bytes=max_bytes)

    def fetch(self, url: str, target: int, task: Task, *, max_bytes: int) -> None:
        fetching.fetch(url, target, task, max_bytes=max_bytes, origins=self._origins)

    def read(self, image: Image, offset: int, length: int, task: Task) -> bytes:
        return reading.read(image, offset, length, task)

    def encrypt(self, image: Image, task: Task) -> None:
        luks.encrypt(image, task, self._iteration_ms)

    def unlock(self, image: Image, task: Task) -> None:
        luks.unlock(image, task)
