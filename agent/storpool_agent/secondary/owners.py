# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who uses which store: the first has it mounted, the last unmounted."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from storpool_agent.errors import SecondaryUnavailable


class Store(Protocol):
    """An export or a directory. Each may raise SecondaryUnavailable, but for `detach`."""

    def attach(self) -> None: ...

    def open(self) -> int:
        """A descriptor of its directory, proven to be the one that was attached; the caller closes it."""
        ...

    def detach(self) -> None: ...


@dataclass
class _Entry:
    mutex: threading.Lock = field(default_factory=threading.Lock)
    """Held while the store is mounted or unmounted: whoever comes second waits for the first, other stores do not."""
    owners: set[str] = field(default_factory=set[str])
    store: Store | None = None


class Owners:
    """By key of the store. Any thread may call any method."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def acquire(self, key: str, owner: str, make: Callable[[], Store]) -> None:
        """Raises SecondaryUnavailable: the owner then does not have it."""
        entry = self._entry(key)
        with entry.mutex:
            if entry.store is None:
                made = make()
                made.attach()
                entry.store = made
            else:
                _require(entry.store)
            entry.owners.add(owner)

    def release(self, key: str, owner: str) -> None:
        entry = self._entry(key)
        with entry.mutex:
            entry.owners.discard(owner)
            if not entry.owners and entry.store is not None:
                store, entry.store = entry.store, None
                store.detach()

    def opened(self, key: str, store: str) -> int:
        """A descriptor of its directory; the caller closes it. Raises SecondaryUnavailable."""
        held = self._entry(key).store
        if held is None:
            raise SecondaryUnavailable(f"{store} is not in use by any job of this host", store=store)
        return held.open()

    def unless_used(self, key: str, act: Callable[[], object]) -> None:
        """Act while nobody has it, and nobody can acquire it."""
        entry = self._entry(key)
        with entry.mutex:
            if entry.store is None:
                act()

    def _entry(self, key: str) -> _Entry:
        with self._mutex:
            return self._entries.setdefault(key, _Entry())


def _require(store: Store) -> None:
    os.close(store.open())
