# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Secondary storage as the handlers use it."""

import hashlib
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path

from storpool_agent.errors import SecondaryNotAllowed
from storpool_agent.secondary import beneath, mountinfo, mounting, nfs, parts, refusals, scratch, stores
from storpool_agent.secondary.local import LocalStore
from storpool_agent.secondary.model import Part
from storpool_agent.secondary.nfs import NfsMount
from storpool_agent.secondary.owners import Owners, Store
from storpool_agent.settings import Secondary


class SecondaryStorage:
    """Implements host.Secondary. Any thread may call any method, but not two at once for one file and owner."""

    def __init__(
        self,
        settings: Secondary,
        scratch_dir: Path,
        *,
        mount_timeout_s: float = mounting.MOUNT_TIMEOUT_S,
        scratch_spare_bytes: int = 0,
    ) -> None:
        self.max_image_bytes = settings.max_image_bytes
        self._settings = settings
        self._scratch_dir = scratch_dir
        self._scratch_spare_bytes = scratch_spare_bytes
        self._mount_timeout_s = mount_timeout_s
        self._mount_dir = os.path.realpath(settings.mount_dir)
        self._owners = Owners()
        self._begun: dict[tuple[str, str, str], FileIO] = {}
        self._texts = threading.Lock()
        """Of the small files, whose temporary name is the same for all of this agent's."""
        self._writer = f"text-{_digest(f'{os.uname().nodename} {self._mount_dir}')}"

    def check(self, store: str) -> None:
        stores.find(store, self._settings)

    def acquire(self, store: str, owner: str) -> None:
        stores.find(store, self._settings)
        self._owners.acquire(_digest(store), owner, lambda: self._store(store))

    def release(self, store: str, owner: str) -> None:
        for begun in list(self._begun):
            if begun[0] == store and begun[2] == owner:  # the store was lost: nobody could discard it
                self._close(*begun)
        self._owners.release(_digest(store), owner)

    def sweep(self) -> None:
        for point in sorted(mountinfo.below(self._mount_dir)):
            self._owners.unless_used(Path(point).name, partial(nfs.clear, point))

    def open_image(self, store: str, path: str) -> int:
        with self._opened(store) as root, refusals.reading(store, path):
            return beneath.open_file(root, path)

    def exists(self, store: str, path: str) -> bool:
        directories, name = beneath.split(path)
        with self._opened(store) as root, refusals.reading(store, path):
            try:
                with beneath.directory(root, directories) as parent:
                    return parts.present(parent, name)
            except FileNotFoundError:
                return False

    def create_part(self, store: str, path: str, owner: str) -> Part:
        self._close(store, path, owner)
        with self._opened(store) as root, refusals.writing(store, path, root):
            file = parts.create(root, path, owner)
        self._begun[store, path, owner] = file
        return Part(store, path, owner, file.fileno())

    def publish(self, part: Part) -> int:
        file = self._begun.pop((part.store, part.path, part.owner))
        try:
            with self._opened(part.store) as root, refusals.writing(part.store, part.path, root):
                return parts.publish(root, part.path, part.owner, file)
        finally:
            _give_up(file)

    def discard_part(self, store: str, path: str, owner: str) -> None:
        self._close(store, path, owner)
        with self._opened(store) as root, refusals.writing(store, path, root):
            parts.discard(root, path, owner)

    def write_text(self, store: str, path: str, text: str) -> None:
        with self._texts, self._opened(store) as root, refusals.writing(store, path, root):
            parts.replace(root, path, text.encode(), self._writer)

    def remove(self, store: str, path: str) -> None:
        with self._opened(store) as root, refusals.writing(store, path, root):
            parts.remove(root, path)

    def scratch(self, owner: str) -> int:
        return scratch.new(self._scratch_dir, owner, self._scratch_spare_bytes)

    def local_path(self, store: str, path: str) -> str:
        found = stores.find(store, self._settings)
        if not isinstance(found, stores.LocalDirectory):
            raise SecondaryNotAllowed(
                f"{store} is only mounted while a copy needs it: a machine can have a disk on a file:// store alone",
                store=store,
            )
        root = LocalStore(store, found).open()
        try:
            with refusals.reading(store, path):
                beneath.require_plain(root, path)
            return f"{Path(f'/proc/self/fd/{root}').readlink()}/{path}"
        finally:
            os.close(root)

    def _store(self, store: str) -> Store:
        found = stores.find(store, self._settings)
        if isinstance(found, stores.LocalDirectory):
            return LocalStore(store, found)
        return NfsMount(store, found.source, f"{self._mount_dir}/{_digest(store)}", self._mount_timeout_s)

    @contextmanager
    def _opened(self, store: str) -> Generator[int]:
        root = self._owners.opened(_digest(store), store)
        try:
            yield root
        finally:
            os.close(root)

    def _close(self, store: str, path: str, owner: str) -> None:
        """What an attempt that failed has left open; before its name is removed, see parts.publish."""
        if (file := self._begun.pop((store, path, owner), None)) is not None:
            _give_up(file)


def _give_up(file: FileIO) -> None:
    """Close it, unless it was. NFS also flushes at a close, and tells then what could not be: of what is not wanted."""
    with suppress(OSError):
        file.close()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
