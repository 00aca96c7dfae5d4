# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Secondary storage that is looked at where that needs no mount."""

import os
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from uuid import uuid4

from storpool_agent.errors import FileExists
from storpool_agent.host import Secondary
from storpool_agent.secondary.model import Part


class DrySecondary:
    """What is on a server that would have to be mounted is not known."""

    def __init__(self, real: Secondary) -> None:
        self._real = real
        self.max_image_bytes = real.max_image_bytes

    def check(self, store: str) -> None:
        self._real.check(store)

    def acquire(self, store: str, owner: str) -> None:
        self._real.check(store)

    def release(self, store: str, owner: str) -> None:
        pass

    def sweep(self) -> None:
        pass

    def open_image(self, store: str, path: str) -> int:
        if not _local(store):
            return _nothing()
        with self._used(store):
            return self._real.open_image(store, path)

    def exists(self, store: str, path: str) -> bool:
        if not _local(store):
            return False
        with self._used(store):
            return self._real.exists(store, path)

    def create_part(self, store: str, path: str, owner: str) -> Part:
        if self.exists(store, path):
            raise FileExists(f"{store} has a file {path} already; choose another path", store=store, path=path)
        descriptor = _nothing()
        weakref.finalize(self, os.close, descriptor)
        return Part(store, path, owner, descriptor)

    def publish(self, part: Part) -> int:
        return 0

    def discard_part(self, store: str, path: str, owner: str) -> None:
        pass

    def write_text(self, store: str, path: str, text: str) -> None:
        pass

    def remove(self, store: str, path: str) -> None:
        pass

    def scratch(self, owner: str) -> int:
        return _nothing()

    def local_path(self, store: str, path: str) -> str:
        """Also of a file that would have been made by now."""
        if not _local(store) or self.exists(store, path):
            return self._real.local_path(store, path)
        self._real.check(store)
        return f"{store.removeprefix('file://')}/{path}"

    @contextmanager
    def _used(self, store: str) -> Generator[None]:
        """A directory of this host needs no mount: nothing changes."""
        owner = f"dry-{uuid4()}"
        self._real.acquire(store, owner)
        try:
            yield
        finally:
            self._real.release(store, owner)


def _local(store: str) -> bool:
    return store.startswith("file://")


def _nothing() -> int:
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
