# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A file that somebody else made, read by its descriptor alone."""

import os
import stat
from dataclasses import dataclass

from storpool_agent.images.foreign.reply import Refusal


@dataclass(frozen=True)
class ForeignFile:
    descriptor: int
    length: int

    @classmethod
    def of(cls, descriptor: int) -> "ForeignFile":
        """Raises Refusal for what is no regular file, or has nothing in it."""
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refusal("image-refused", "it is no regular file")
        if status.st_size == 0:
            raise Refusal("image-refused", "the file is empty")
        return cls(descriptor, status.st_size)

    def head(self, count: int) -> bytes:
        """Fewer where the file is shorter."""
        return self.read_some(0, count)

    def read(self, offset: int, count: int, what: str) -> bytes:
        """Raises Refusal when the file ends before."""
        data = self.read_some(offset, count) if offset + count <= self.length else b""
        if len(data) != count:
            raise Refusal("image-refused", f"the file is cut off: {what} is not in it")
        return data

    def read_some(self, offset: int, count: int) -> bytes:
        """What is there, at most so many; empty at the end."""
        try:
            return os.pread(self.descriptor, count, offset)
        except OSError as error:
            raise Refusal("secondary-unavailable", f"it cannot be read: {error.strerror}") from error
