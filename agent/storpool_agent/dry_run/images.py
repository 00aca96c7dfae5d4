# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Images that are looked into and not copied."""

from storpool_agent.host import Images
from storpool_agent.images.model import Image, Look, Task
from storpool_commands.images import Compression

SECTOR = 512


class DryImages:
    """What would have to be read to the end is taken to be what the command says it is."""

    def __init__(self, real: Images) -> None:
        self._real = real
        self._unseen: set[int] = set()
        """Descriptors of files that a download or an unpacking would fill."""

    def inspect(self, image: Image, task: Task, *, max_size_bytes: int) -> Look:
        if image.descriptor in self._unseen:
            return Look(SECTOR)
        return self._real.inspect(image, task, max_size_bytes=max_size_bytes)

    def create(self, image: Image, size_bytes: int, task: Task) -> None:
        pass

    def convert(
        self, source: Image, target: Image, task: Task, *, zeroed: bool = False, compress: bool = False
    ) -> None:
        pass

    def block_hash(self, image: Image, size_bytes: int, task: Task) -> str:
        return ""

    def checksum(self, image: Image, algorithm: str, task: Task) -> str:
        return ""

    def unpack(self, packed: Image, compression: Compression, target: int, task: Task, *, max_bytes: int) -> None:
        self._unseen.add(target)

    def fetch(self, url: str, target: int, task: Task, *, max_bytes: int) -> None:
        self._unseen.add(target)

    def read(self, image: Image, offset: int, length: int, task: Task) -> bytes:
        return self._real.read(image, offset, length, task)

    def encrypt(self, image: Image, task: Task) -> None:
        pass

    def unlock(self, image: Image, task: Task) -> None:
        pass
