# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the operating system says no to on secondary storage, in our words: the one place that reads errno for it."""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager

from storpool_agent.errors import (
    AgentError,
    FileExists,
    ImageNotFound,
    ImageRefused,
    SecondaryFull,
    SecondaryReadOnly,
    SecondaryUnavailable,
)

_NO_FILE = {errno.ENOENT}
_NO_PERMISSION = {errno.EACCES, errno.EPERM}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_IMAGE = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG}
"""ELOOP and ENOTDIR are what O_NOFOLLOW and O_DIRECTORY say of a symbolic link."""


@contextmanager
def reading(store: str, path: str) -> Generator[None]:
    """Translate what fails inside, where nothing is changed."""
    try:
        yield
    except OSError as error:
        raise _common(error, store, path) or _unavailable(error, store, path) from error


@contextmanager
def writing(store: str, path: str, root: int) -> Generator[None]:
    """Translate what fails inside; `root` is a descriptor of the store, for telling how much is free."""
    try:
        yield
    except OSError as error:
        raise _common(error, store, path) or _unwritable(error, store, path, root) from error


def _common(error: OSError, store: str, path: str) -> AgentError | None:
    if error.errno in _NO_FILE:
        return ImageNotFound(f"{store} has no {path}", store=store, path=path)
    if error.errno == errno.EEXIST:
        return FileExists(f"{store} has {path} already, and no file is overwritten", store=store, path=path)
    if error.errno in _NO_IMAGE:
        return ImageRefused(
            f"{path} of {store} is no plain file below plain directories: {error.strerror}", store=store, path=path
        )
    return None


def _unwritable(error: OSError, store: str, path: str, root: int) -> AgentError:
    if error.errno == errno.EROFS:
        return SecondaryReadOnly(f"{store} is mounted or exported read-only", store=store, path=path)
    if error.errno in _NO_PERMISSION:
        return SecondaryReadOnly(
            f"this host may not write {path} on {store}: look at the directory's owner and the export's root_squash",
            store=store,
            path=path,
        )
    if error.errno in _FULL:
        free = _free_bytes(root)
        return SecondaryFull(
            f"no room on {store}: {error.strerror}, {free} bytes are free", store=store, free_bytes=free
        )
    return _unavailable(error, store, path)


def _unavailable(error: OSError, store: str, path: str) -> SecondaryUnavailable:
    """Also what has no name here: EIO, ESTALE, ETIMEDOUT, EHOSTDOWN are what a lost server looks like."""
    return SecondaryUnavailable(f"{path} on {store}: {error.strerror}", store=store, path=path, errno=error.errno or 0)


def _free_bytes(root: int) -> int:
    """For others than root; 0 when the store does not even say that."""
    try:
        space = os.fstatvfs(root)
    except OSError:
        return 0
    return space.f_bavail * space.f_frsize
