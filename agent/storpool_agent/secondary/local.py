# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A directory of this host as a store: mounted, or not, by whoever runs the host."""

import os

from storpool_agent.errors import SecondaryUnavailable
from storpool_agent.secondary import beneath
from storpool_agent.secondary.stores import LocalDirectory

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalStore:
    """Used while it is on the file system that it was on at `attach`."""

    def __init__(self, store: str, place: LocalDirectory) -> None:
        self._store = store
        self._place = place
        self._device: int | None = None

    def attach(self) -> None:
        """Raises SecondaryUnavailable."""
        self._device = None
        descriptor = self.open()
        self._device = os.fstat(descriptor).st_dev
        os.close(descriptor)

    def open(self) -> int:
        """The directory; the caller closes it. Raises SecondaryUnavailable."""
        try:
            descriptor = self._open()
        except OSError as error:
            raise SecondaryUnavailable(
                f"{self._store}: its directory cannot be opened: {error.strerror}", store=self._store
            ) from error
        if self._device not in {None, os.fstat(descriptor).st_dev}:
            os.close(descriptor)
            raise SecondaryUnavailable(
                f"{self._store} is on another file system than before: has it been mounted or unmounted?",
                store=self._store,
            )
        return descriptor

    def detach(self) -> None:
        """It is not ours to unmount."""

    def _open(self) -> int:
        """No symbolic link is followed: the way was resolved before, one that is there now is new."""
        allowed = os.open(self._place.allowed, _DIRECTORY)
        try:
            return beneath.open_directory(allowed, self._place.parts)
        finally:
            os.close(allowed)
