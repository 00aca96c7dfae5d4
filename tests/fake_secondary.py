# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Secondary storage in directories, by the rules of the real one, for tests of handlers.

Its files are real: images are read and written through descriptors. `tests/contract/secondary.py` runs the same tests
on this and on the real one, so they cannot drift.
"""

import os
import stat
import tempfile
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from storpool_agent.errors import (
    FileExists,
    ImageNotFound,
    ImageRefused,
    ScratchFull,
    SecondaryFull,
    SecondaryNotAllowed,
    SecondaryReadOnly,
    SecondaryUnavailable,
)
from storpool_agent.secondary.model import Part


@dataclass
class FakeSecondary:
    """Every store is a directory below `directory`: allowed, there, and writable until a test says otherwise."""

    directory: Path
    max_image_bytes: int = 4 << 40
    not_allowed: set[str] = field(default_factory=set[str])
    unavailable: set[str] = field(default_factory=set[str])
    """Stores that are lost, now or from now on."""
    read_only: set[str] = field(default_factory=set[str])
    full: set[str] = field(default_factory=set[str])
    scratch_full: bool = False
    acquired: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """The owners of each store that is in use."""
    _begun: dict[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])

    def files(self, store: str) -> Path:
        """Where a store's files are."""
        found = self.directory / sha256(store.encode()).hexdigest()[:8]
        found.mkdir(parents=True, exist_ok=True)
        return found

    def check(self, store: str) -> None:
        if store in self.not_allowed:
            raise SecondaryNotAllowed(f"{store} is not allowed", store=store)

    def acquire(self, store: str, owner: str) -> None:
        self.check(store)
        self._require_available(store)
        self.acquired.setdefault(store, set()).add(owner)

    def release(self, store: str, owner: str) -> None:
        owners = self.acquired.get(store, set())
        owners.discard(owner)
        if not owners:
            self.acquired.pop(store, None)

    def sweep(self) -> None:
        """Nothing outlives a fake."""

    def open_image(self, store: str, path: str) -> int:
        file = self._found(store, path)
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise ImageRefused(f"{path} is no file, or has several names", path=path)
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)

    def exists(self, store: str, path: str) -> bool:
        try:
            self._found(store, path)
        except ImageNotFound:
            return False
        return True

    def create_part(self, store: str, path: str, owner: str) -> Part:
        self._close(store, path, owner)
        file = self._writable(store, path)
        part = _part(file, owner)
        part.unlink(missing_ok=True)
        if os.path.lexists(file):
            raise FileExists(f"{store} has {path} already", store=store, path=path)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._begun[store, path, owner] = descriptor
        return Part(store, path, owner, descriptor)

    def publish(self, part: Part) -> int:
        self._begun.pop((part.store, part.path, part.owner))
        size_bytes = os.fstat(part.descriptor).st_size
        os.fchmod(part.descriptor, 0o644)
        os.close(part.descriptor)
        file = self._writable(part.store, part.path)
        named = _part(file, part.owner)
        try:
            file.hardlink_to(named)
        except FileExistsError as error:
            raise FileExists(f"{part.store} has {part.path} already", store=part.store, path=part.path) from error
        except FileNotFoundError as error:
            raise SecondaryUnavailable(f"{part.path} is not there any more", path=part.path) from error
        finally:
            named.unlink(missing_ok=True)
        return size_bytes

    def discard_part(self, store: str, path: str, owner: str) -> None:
        self._close(store, path, owner)
        _part(self._place(store, path), owner).unlink(missing_ok=True)

    def write_text(self, store: str, path: str, text: str) -> None:
        file = self._writable(store, path)
        if file.is_dir() and not file.is_symlink():
            raise ImageRefused(f"{path} is a directory", path=path)
        fresh = _part(file, "text")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(file)

    def remove(self, store: str, path: str) -> None:
        if not self.exists(store, path):
            return
        file = self._writable(store, path)
        if not stat.S_ISREG(file.lstat().st_mode):
            raise ImageRefused(f"{path} is no file", path=path)
        file.unlink()

    def scratch(self, owner: str) -> int:
        if self.scratch_full:
            raise ScratchFull("no room for a file", owner=owner)
        with tempfile.TemporaryFile(dir=self.directory, buffering=0) as file:
            return os.dup(file.fileno())

    def local_path(self, store: str, path: str) -> str:
        self.check(store)
        if not store.startswith("file://"):
            raise SecondaryNotAllowed(f"{store} is only mounted while a copy needs it", store=store)
        file = self._way(store, path)
        if os.path.lexists(file) and not stat.S_ISREG(file.lstat().st_mode):
            raise ImageRefused(f"{path} is no file", path=path)
        return str(file)

    def _require_available(self, store: str) -> None:
        if store in self.unavailable:
            raise SecondaryUnavailable(f"{store} is not there", store=store)

    def _place(self, store: str, path: str) -> Path:
        """Of a store that is in use. Raises ImageRefused for a way that is no chain of directories."""
        self._require_available(store)
        if store not in self.acquired:
            raise SecondaryUnavailable(f"{store} is not in use by any job of this host", store=store)
        return self._way(store, path)

    def _way(self, store: str, path: str) -> Path:
        here = self.files(store)
        for part in path.split("/")[:-1]:
            here /= part
            if os.path.lexists(here) and (here.is_symlink() or not here.is_dir()):
                raise ImageRefused(f"{part} is no directory", path=path)
        return here / path.rpartition("/")[2]

    def _found(self, store: str, path: str) -> Path:
        file = self._place(store, path)
        if not os.path.lexists(file):
            raise ImageNotFound(f"{store} has no {path}", store=store, path=path)
        return file

    def _writable(self, store: str, path: str) -> Path:
        file = self._place(store, path)
        if store in self.read_only:
            raise SecondaryReadOnly(f"{store} is read-only", store=store)
        if store in self.full:
            raise SecondaryFull(f"no room on {store}: 0 bytes are free", store=store, free_bytes=0)
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def _close(self, store: str, path: str, owner: str) -> None:
        if (descriptor := self._begun.pop((store, path, owner), None)) is not None:
            os.close(descriptor)


def _part(file: Path, owner: str) -> Path:
    return file.with_name(f".{sha256(file.name.encode()).hexdigest()}.part-{owner}")
