# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The image tools, as handlers have them (host.Images). Each is a module of its own."""

from storpool_agent.images import convert, hashing
from storpool_agent.images.model import Image, Task


class ImageTools:
    """Without state: any thread may call any method, several at a time."""

    def convert(
        self, source: Image, target: Image, task: Task, *, zeroed: bool = False, compress: bool = False
    ) -> None:
        convert.convert(source, target, task, zeroed=zeroed, compress=compress)

    def block_hash(self, image: Image, size_bytes: int, task: Task) -> str:
        return hashing.block_hash(image, size_bytes, task)

    def checksum(self, image: Image, algorithm: str, task: Task) -> str:
        return hashing.checksum(image, algorithm, task)
