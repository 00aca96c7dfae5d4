# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Secondary storage, as the handlers see it."""

from typing import Protocol

from storpool_agent.secondary.model import Part


class Secondary(Protocol):
    """Secondary storage. Any call may raise SecondaryUnavailable.

    Files are reached in a store that somebody has acquired; `check` and `local_path` need no such.
    """

    max_image_bytes: int
    """The largest disk, and the largest download, that this host's settings allow."""

    def check(self, store: str) -> None:
        """Raises SecondaryNotAllowed for a store that this host's settings do not allow. Changes nothing."""
        ...

    def acquire(self, store: str, owner: str) -> None:
        """Have a store mounted until everybody who acquired it has released it. Again by the same owner is no more.

        Raises SecondaryNotAllowed.
        """
        ...

    def release(self, store: str, owner: str) -> None:
        """Unmount it if nobody else has it. Not acquired is a success.

        What this owner had begun there, and could neither publish nor discard, is closed: nothing keeps the mount busy.
        """
        ...

    def sweep(self) -> None:
        """Unmount what an earlier run of the agent has left mounted and nobody has acquired by now."""
        ...

    def open_image(self, store: str, path: str) -> int:
        """A descriptor of a regular file with one name, opened for reading; no symbolic link is followed.

        Raises ImageNotFound, ImageRefused (a link, a directory, a device, a second name).
        """
        ...

    def exists(self, store: str, path: str) -> bool: ...

    def create_part(self, store: str, path: str, owner: str) -> Part:
        """Begin a file; one that this owner had begun for this path is begun anew. Directories on the way are made.

        Raises FileExists when there is a file of that name, also one that this owner published before the agent died;
        SecondaryReadOnly, SecondaryFull, ImageRefused (a way that is no chain of directories).
        """
        ...

    def publish(self, part: Part) -> int:
        """Flush the file and give it its name, if the store is still what it was; its length in bytes.

        Raises FileExists: nothing that is there is replaced, and the part is removed. After other failures the part is
        for `discard_part`.
        """
        ...

    def discard_part(self, store: str, path: str, owner: str) -> None:
        """Remove what `create_part` began, if it is still there under that name."""
        ...

    def write_text(self, store: str, path: str, text: str) -> None:
        """Write a small file in one step, over one that is there. Raises SecondaryReadOnly, SecondaryFull."""
        ...

    def remove(self, store: str, path: str) -> None:
        """Remove a file. None such is a success."""
        ...

    def scratch(self, owner: str) -> int:
        """An empty file of this host that has no name: what is in it is gone when it is closed. Raises ScratchFull."""
        ...

    def local_path(self, store: str, path: str) -> str:
        """The path of a file that machines of this host may have as a disk: of a `file://` store alone.

        Raises SecondaryNotAllowed for others, which are only mounted while a copy needs them.
        """
        ...
