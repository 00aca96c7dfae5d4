# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The tools for disk images, as the handlers see them."""

from typing import Protocol

from storpool_agent.images.model import Image, Look
from storpool_agent.task import Task
from storpool_commands.images import Compression


class Images(Protocol):
    """The tools for disk images. Each call may raise what the task is interrupted with, CopyStalled and CopyFailed.

    They run as children of their own: with limits, at low priority, ended with the agent, and never given a path
    that came from a message.
    """

    def inspect(self, image: Image, task: Task, *, max_size_bytes: int) -> Look:
        """Look into a foreign image, in a process that can do no harm.

        Raises ImageRefused (another file behind it, snapshots in it, features nobody asked for, tables out of all
        proportion), ImageFormatMismatch (it is something else than was said; a raw one that begins as an image of
        another format), ImageTooLarge (its disk has more than `max_size_bytes`).
        """
        ...

    def create(self, image: Image, size_bytes: int, task: Task) -> None:
        """Make an empty file an image of a disk of that size, which reads as zeroes. Raises SecondaryFull."""
        ...

    def convert(
        self, source: Image, target: Image, task: Task, *, zeroed: bool = False, compress: bool = False
    ) -> None:
        """Copy the disk in `source` to `target`, and flush it.

        A target that is a file is empty before and becomes an image of the target's format and of the source's virtual
        size, sparse where that is zero. A device has at least that size; what is beyond is left as it is. `zeroed`: all
        of the target reads as zeroes, so none are written. `compress`: zstd, qcow2 alone. Raises SecondaryFull when the
        target is a file and there is no room for it, and SecondaryUnavailable when one of the files fails.
        """
        ...

    def block_hash(self, image: Image, size_bytes: int, task: Task) -> str:
        """The BlockHash of the first `size_bytes` of the disk in an image, read past the page cache."""
        ...

    def checksum(self, image: Image, algorithm: str, task: Task) -> str:
        """Of the file as it is, as `<algorithm>:<hex>`."""
        ...

    def unpack(self, packed: Image, compression: Compression, target: int, task: Task, *, max_bytes: int) -> None:
        """Decompress a file into an empty one, sparsely. Raises ImageTooLarge as soon as more than that comes out,
        ImageRefused when it is no such file or is cut off, ScratchFull."""
        ...

    def fetch(self, url: str, target: int, task: Task, *, max_bytes: int) -> None:
        """Download into an empty file; a connection that breaks is taken up again where the server can do that.

        Raises SecondaryNotAllowed (an address that the settings do not allow, also when a redirect leads there),
        ImageNotFound, DownloadFailed, ImageTooLarge, ScratchFull.
        """
        ...

    def read(self, image: Image, offset: int, length: int, task: Task) -> bytes:
        """A few bytes (16 MiB at most) as they are on the device, whatever is in them; fewer at its end."""
        ...

    def encrypt(self, image: Image, task: Task) -> None:
        """Write a LUKS header that the image's passphrase (`luks`) opens onto the device, and flush it.

        Whatever the device has in its first 2,068,480 bytes is lost, and what is behind reads as noise from then on.
        """
        ...

    def unlock(self, image: Image, task: Task) -> None:
        """Try the image's passphrase on its header, also while a machine has it open. Raises WrongKey."""
        ...
