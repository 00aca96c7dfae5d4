# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An NFS export as a store: mounted, looked at again before each use, unmounted."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import structlog

from storpool_agent.errors import SecondaryUnavailable
from storpool_agent.secondary import mountinfo, mounting

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DIRECTORY_MODE = 0o700


class NfsMount:
    """One export at its directory. One thread at a time may attach and detach; `open` is for any."""

    def __init__(self, store: str, source: str, directory: str, mount_timeout_s: float) -> None:
        """`directory` without symbolic links in it, as mountinfo will show it."""
        self._store = store
        self._source = source
        self._directory = directory
        self._mount_timeout_s = mount_timeout_s
        self._identity: tuple[int, int] | None = None

    def attach(self) -> None:
        """Mount it, or take over what an earlier run of the agent has mounted. Raises SecondaryUnavailable."""
        if self._taken_over():
            return
        try:
            Path(self._directory).mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unavailable(f"cannot make {self._directory}: {error.strerror}") from error
        try:
            mounting.mount(self._source, self._directory, self._mount_timeout_s)
            self._identity = self._look()
        except (mounting.Refused, SecondaryUnavailable) as error:
            clear(self._directory)
            raise self._unavailable(f"cannot be mounted: {error}") from error
        log.info("secondary mounted", store=self._store, path=self._directory)

    def open(self) -> int:
        """The directory, if it is still the mount that was attached; the caller closes it.

        Raises SecondaryUnavailable: what is then at that place is a directory of the host's own file system, which must
        not be written to, or somebody else's.
        """
        descriptor, identity = self._opened()
        if identity != self._identity:
            os.close(descriptor)
            raise self._unavailable("has been unmounted and mounted again meanwhile")
        return descriptor

    def detach(self) -> None:
        """Unmount it. What is busy stays, and is for a later `clear`."""
        self._identity = None
        if clear(self._directory):
            log.info("secondary unmounted", store=self._store)

    def _taken_over(self) -> bool:
        if not mountinfo.at(self._directory):
            return False
        try:
            self._identity = self._look()
        except SecondaryUnavailable as error:
            if not clear(self._directory):
                raise self._unavailable(
                    f"something else is mounted at {self._directory}, and in use: {error}"
                ) from error
            return False
        log.info("secondary taken over", store=self._store, path=self._directory)
        return True

    def _look(self) -> tuple[int, int]:
        descriptor, identity = self._opened()
        os.close(descriptor)
        return identity

    def _opened(self) -> tuple[int, tuple[int, int]]:
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise self._unavailable(f"{self._directory} cannot be opened: {error.strerror}") from error
        try:
            return descriptor, self._identity_of(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise self._unavailable(f"{self._directory} cannot be looked at: {error.strerror}") from error
        except BaseException:
            os.close(descriptor)
            raise

    def _identity_of(self, descriptor: int) -> tuple[int, int]:
        mount = mountinfo.of(descriptor)
        if mount is None or mount.point != self._directory:
            raise self._unavailable(f"is not mounted at {self._directory}")
        if mount.source != self._source:
            raise self._unavailable(f"{mount.source} is mounted at {self._directory} instead")
        if missing := mounting.REQUIRED - mount.options:
            raise self._unavailable(f"is mounted without {', '.join(sorted(missing))}")
        device = os.fstat(descriptor).st_dev
        if device != mount.device:
            raise self._unavailable(f"{self._directory} is on another file system than its mount")
        return mount.mount_id, device

    def _unavailable(self, problem: str) -> SecondaryUnavailable:
        return SecondaryUnavailable(f"{self._store}: {problem}", store=self._store)


def clear(directory: str) -> bool:
    """Unmount all that is mounted there, and remove the directory; false when something is in use."""
    try:
        while mountinfo.at(directory):
            mounting.unmount(directory)
    except mounting.Refused as refused:
        log.warning("secondary not unmounted", path=directory, reason=str(refused))
        return False
    try:
        with suppress(FileNotFoundError):
            Path(directory).rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EBUSY}:
            log.warning("mount point not removed", path=directory, reason=error.strerror)
    return True
