# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Files that are being written: under a name of their owner's beside their own, until they are whole."""

import ctypes
import errno
import hashlib
import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import FileIO

from storpool_agent.errors import SecondaryUnavailable
from storpool_agent.secondary import beneath

NAME_MAX = 255
PUBLISHED_MODE = 0o644  # a secondary storage VM reads it as another user
_PRIVATE_MODE = 0o600
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""link(2): EPERM is a file system without hard links."""
_RENAME_NOREPLACE = 1  # linux/fs.h
_libc = ctypes.CDLL(None, use_errno=True)


def part_name(name: str, owner: str) -> str:
    """Always the same for an owner, who so finds again after a crash what it had begun."""
    if not _OWNER.fullmatch(owner):
        raise ValueError("an owner is a request's id")
    ending = f".part-{owner}"
    if len(name) + len(ending) + 1 > NAME_MAX:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        name = f"{name[: NAME_MAX - len(ending) - len(digest) - 2]}~{digest}"
    return f".{name}{ending}"


def create(root: int, path: str, owner: str) -> FileIO:
    """A new file, open for reading and writing. Raises OSError (EEXIST: the path has a file), ImageRefused.

    A part of this owner's is removed first. When it was linked to its final name and not removed before a crash,
    the file is complete, and stays under that name alone.
    """
    parts, name = beneath.split(path)
    with beneath.directory(root, parts, make=True) as parent:
        with suppress(FileNotFoundError):
            os.unlink(part_name(name, owner), dir_fd=parent)
        if present(parent, name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        return FileIO(os.open(part_name(name, owner), _NEW, _PRIVATE_MODE, dir_fd=parent), "r+")


def discard(root: int, path: str, owner: str) -> None:
    """None such is a success. Raises OSError, ImageRefused."""
    parts, name = beneath.split(path)
    with suppress(FileNotFoundError), beneath.directory(root, parts) as parent:
        os.unlink(part_name(name, owner), dir_fd=parent)
        os.fsync(parent)


def publish(root: int, path: str, owner: str, file: FileIO) -> int:
    """Flush a part, close it, and give it its name; its length.

    Raises OSError (EEXIST: the part is removed), ImageRefused, SecondaryUnavailable (the part has gone).
    """
    parts, name = beneath.split(path)
    part = part_name(name, owner)
    size_bytes, identity = _flushed(file)
    with beneath.directory(root, parts) as parent:
        if _identity(parent, part) != identity:
            raise SecondaryUnavailable(
                f"{path} is not there any more as it was begun: somebody has removed it", path=path
            )
        try:
            _name(parent, part, name)
        except FileExistsError:
            os.unlink(part, dir_fd=parent)
            raise
        with _taken_back(parent, name):
            with suppress(FileNotFoundError):  # it was renamed
                os.unlink(part, dir_fd=parent)
            os.fsync(parent)
    return size_bytes


def replace(root: int, path: str, data: bytes, writer: str) -> None:
    """Write a small file in one step, over one that is there; one thread at a time per writer.

    Raises OSError, ImageRefused.
    """
    parts, name = beneath.split(path)
    with beneath.directory(root, parts, make=True) as parent:
        part = part_name(name, writer)
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=parent)
        try:
            with os.fdopen(os.open(part, _NEW, _PRIVATE_MODE, dir_fd=parent), "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), PUBLISHED_MODE)
                os.fsync(file.fileno())
            os.replace(part, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with suppress(OSError):  # what went wrong first is told
                os.unlink(part, dir_fd=parent)
            raise
        os.fsync(parent)


def remove(root: int, path: str) -> None:
    """None such is a success. Raises OSError, ImageRefused (no regular file)."""
    parts, name = beneath.split(path)
    with suppress(FileNotFoundError), beneath.directory(root, parts) as parent:
        with beneath.looked_at(parent, name) as found:
            beneath.require_regular(found, path)
        os.unlink(name, dir_fd=parent)
        os.fsync(parent)


def present(parent: int, name: str) -> bool:
    """Whether there is anything of that name."""
    return _identity(parent, name) is not None


def _identity(parent: int, name: str) -> tuple[int, int] | None:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _flushed(file: FileIO) -> tuple[int, tuple[int, int]]:
    """Its length and identity. Closed before a name of it is removed: NFS gives an open file another (.nfs...)."""
    with file:
        os.fchmod(file.fileno(), PUBLISHED_MODE)
        os.fsync(file.fileno())
        status = os.fstat(file.fileno())
    return status.st_size, (status.st_dev, status.st_ino)


def _name(parent: int, part: str, name: str) -> None:
    """Raises OSError: EEXIST when there is such a file, and it is not this one."""
    try:
        os.link(part, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        # open(2), about NFS: the answer to a link that was made may be lost, and the repetition finds it there.
        if _identity(parent, part) != _identity(parent, name):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename(parent, part, name)


def _rename(parent: int, part: str, name: str) -> None:
    """renameat2(2), which the standard library lacks. Not the first choice: NFS has no RENAME_NOREPLACE."""
    if _libc.renameat2(parent, part.encode(), parent, name.encode(), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


@contextmanager
def _taken_back(parent: int, name: str) -> Generator[None]:
    """What is not certainly on the disk has no name: it is taken back when something fails inside."""
    try:
        yield
    except OSError:
        with suppress(OSError):  # a store that fails now, too: what went wrong first is told
            os.unlink(name, dir_fd=parent)
        raise
