# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The tools for images in memory, by the rules of the real ones: contents are bytes, in every format the same."""

import gzip
import hashlib
import os
from dataclasses import dataclass, field

from block_hash_reference import block_hash
from storpool_agent.encryption_errors import WrongKey
from storpool_agent.errors import AgentError, ImageFormatMismatch, ImageNotFound, ImageTooLarge
from storpool_agent.images import luks
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
        if target.luks is not None:
            self.unlock(target, task)
            contents, at = _encrypted(contents), luks.PAYLOAD_OFFSET_BYTES
        else:
            at = 0
        os.pwrite(target.descriptor, contents, at)
        task.report(len(contents), len(contents))

    def block_hash(self, image: Image, size_bytes: int, task: Task) -> str:
        self._begin("block_hash", task)
        if image.luks is not None:
            self.unlock(image, task)
            return block_hash(_encrypted(os.pread(image.descriptor, size_bytes, luks.PAYLOAD_OFFSET_BYTES)))
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

    def read(self, image: Image, offset: int, length: int, task: Task) -> bytes:
        self._begin("read", task)
        return os.pread(image.descriptor, length, offset)

    def encrypt(self, image: Image, task: Task) -> None:
        self._begin("encrypt", task)
        os.pwrite(image.descriptor, header(_passphrase(image)), 0)

    def unlock(self, image: Image, task: Task) -> None:
        self._begin("unlock", task)
        if os.pread(image.descriptor, 32, luks.HEADER_BYTES) != hashlib.sha256(_passphrase(image)).digest():
            raise WrongKey(f"the key does not open {image.name}", device=image.name)

    def _begin(self, call: str, task: Task) -> None:
        task.interrupt.check()
        if call in self.failing:
            raise self.failing[call]


def header(passphrase: bytes) -> bytes:
    """A LUKS header as far as the agent reads it; behind it what the passphrase is known by."""
    prefix = b"LUKS\xba\xbe\0\1" + b"aes".ljust(32, b"\0") + b"xts-plain64".ljust(32, b"\0") + bytes(32)
    offset = (luks.PAYLOAD_OFFSET_BYTES // 512).to_bytes(4, "big")
    uuid = b"cb6185bf-3b51-4be4-aefa-d90fecc7c5d2"
    beginning = (prefix + offset).ljust(168, b"\0") + uuid
    return beginning.ljust(luks.HEADER_BYTES, b"\0") + hashlib.sha256(passphrase).digest()


def _passphrase(image: Image) -> bytes:
    assert image.luks is not None
    return os.pread(image.luks, 4096, 0)


def _encrypted(contents: bytes) -> bytes:
    """Its own inverse."""
    return bytes(255 - byte for byte in contents)
