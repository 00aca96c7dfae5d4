# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The tools for images in memory, by the rules of the real ones: contents are bytes, in every format the same."""

import gzip
import hashlib
import os
from dataclasses import dataclass, field

from block_hash_reference import block_hash
from storpool_agent.errors import AgentError, ImageFormatMismatch, ImageNotFound, ImageTooLarge
from storpool_agent.images.model import Image, Look, Task
from storpool_commands.images import Compression

QCOW2_MAGIC = b"QFI\xfb"


@dataclass
class FakeImages:
    """What a test may do to them."""

    web: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """What is behind which URL."""
    failing: dict[str, AgentError] = field(default_factory=dict[str, AgentError])
    """What a call, by its name, raises instead."""
    lost: bool = False
    """The last byte of every copy is another."""
    zeroed: list[bool] = field(default_factory=list[bool])
    """Whether each copy was told that its target is zero."""

    def inspect(self, image: Image, task: Task, *, max_size_bytes: int) -> Look:
        self._begin("inspect", task)
        if image.format == "raw" and os.pread(image.descriptor, 4, 0) == QCOW2_MAGIC:
            raise ImageFormatMismatch(f"{image.name} is a qcow2", declared=image.format)
        length = os.fstat(image.descriptor).st_size
        if length > max_size_bytes:
            raise ImageTooLarge(f"{image.name} is too large", size_bytes=length)
        return Look(length)

    def create(self, image: Image, size_bytes: int, task: Task) -> None:
        self._begin("create", task)
        os.ftruncate(image.descriptor, size_bytes)

    def convert(
        self, source: Image, target: Image, task: Task, *, zeroed: bool = False, compress: bool = False
    ) -> None:
        self._begin("convert", task)
        self.zeroed.append(zeroed)
        contents = os.pread(source.descriptor, os.fstat(source.descriptor).st_size, 0)
        if self.lost:
            contents = contents[:-1] + b"\xff"
        os.pwrite(target.descriptor, contents, 0)
        task.report(len(contents), len(contents))

    def block_hash(self, image: Image, size_bytes: int, task: Task) -> str:
        self._begin("block_hash", task)
        return block_hash(os.pread(image.descriptor, size_bytes, 0))

    def checksum(self, image: Image, algorithm: str, task: Task) -> str:
        self._begin("checksum", task)
        contents = os.pread(image.descriptor, os.fstat(image.descriptor).st_size, 0)
        return f"{algorithm}:{hashlib.new(algorithm, contents).hexdigest()}"

    def unpack(self, packed: Image, compression: Compression, target: int, task: Task, *, max_bytes: int) -> None:
        self._begin("unpack", task)
        contents = gzip.decompress(os.pread(packed.descriptor, os.fstat(packed.descriptor).st_size, 0))
        if len(contents) > max_bytes:
            raise ImageTooLarge(f"{packed.name} is too large", size_bytes=len(contents))
        os.pwrite(target, contents, 0)

    def fetch(self, url: str, target: int, task: Task, *, max_bytes: int) -> None:
        self._begin("fetch", task)
        if url not in self.web:
            raise ImageNotFound("not found", status=404)
        os.pwrite(target, self.web[url], 0)

    def _begin(self, call: str, task: Task) -> None:
        task.interrupt.check()
        if call in self.failing:
            raise self.failing[call]
