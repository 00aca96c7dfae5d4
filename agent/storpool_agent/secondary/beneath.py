# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The way to a file below a directory that is open: one part of the path at a time, and never out of it.

Each part is opened relative to the one before, with O_NOFOLLOW, and must be on the same file system. That is what
openat2's RESOLVE_BENEATH, NO_SYMLINKS and NO_XDEV do in one call; here directories are also made on the way, the
standard library has no openat2, and which part was refused can be told. `..` has been refused before.
"""

import errno
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

from storpool_agent.errors import ImageRefused

DIRECTORY_MODE = 0o755  # others of the export (a secondary storage VM) read it as another user
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def split(path: str) -> tuple[list[str], str]:
    """Directories and file name. The contract has refused the rest already: such a path is a defect here."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise ValueError("no path below a directory")
    return parts[:-1], parts[-1]


@contextmanager
def directory(root: int, parts: Sequence[str], *, make: bool = False) -> Generator[int]:
    """The directory that `parts` lead to. Raises OSError, ImageRefused.

    `make`: those that are missing are made, and flushed.
    """
    here = os.dup(root)
    try:
        for part in parts:
            following = _enter(here, part, make=make)
            os.close(here)
            here = following
            require_same_file_system(root, here, part)
        yield here
    finally:
        os.close(here)


def open_directory(parent: int, parts: Sequence[str]) -> int:
    """As `directory`, for a way that may lead over mounts; the caller closes it."""
    here = os.dup(parent)
    for part in parts:
        try:
            following = os.open(part, _DIRECTORY, dir_fd=here)
        finally:
            os.close(here)
        here = following
    return here


def _enter(parent: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
    except FileExistsError:  # somebody was faster: it is theirs
        return os.open(name, _DIRECTORY, dir_fd=parent)
    made = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        os.fchmod(made, DIRECTORY_MODE)  # whatever the agent's umask is
        os.fsync(parent)
    except BaseException:
        os.close(made)
        raise
    return made


def require_same_file_system(root: int, descriptor: int, name: str) -> None:
    """Raises ImageRefused for what is mounted below a store: it would go unnoticed when that is lost."""
    if os.fstat(root).st_dev != os.fstat(descriptor).st_dev:
        raise ImageRefused(f"{name} is on another file system than the store", name=name)


@contextmanager
def looked_at(parent: int, name: str) -> Generator[int]:
    """A descriptor that only names the file (O_PATH): a device or a FIFO is not opened by it. Raises OSError."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(root: int, path: str) -> int:
    """Open a regular file with one name for reading; the caller closes it. Raises OSError, ImageRefused."""
    parts, name = split(path)
    with directory(root, parts) as parent, looked_at(parent, name) as found:
        require_regular(found, path)
        require_same_file_system(root, found, path)
        if (names := os.fstat(found).st_nlink) == 0:  # removed since it was found, or on the server
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if names != 1:
            raise ImageRefused(f"{path} has {names} names (hard links): it may be somebody else's file", path=path)
        # The very file that was looked at: the name may lead elsewhere by now.
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)


def require_regular(descriptor: int, path: str) -> None:
    """Raises ImageRefused."""
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        raise ImageRefused(f"{path} is {_kind(mode)}, no file", path=path)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a block device",
        stat.S_IFCHR: "a character device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def require_plain(root: int, path: str) -> None:
    """As far as there is anything: directories on the way, and a regular file. Raises OSError, ImageRefused."""
    parts, name = split(path)
    with suppress(FileNotFoundError), directory(root, parts) as parent, looked_at(parent, name) as found:
        require_regular(found, path)
        require_same_file_system(root, found, path)
