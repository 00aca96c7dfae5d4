# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The cluster's configuration: volumes, snapshots, attachments, templates.

One change at a time (`with state.change():`), which is all or nothing and raises the generation by one.
"""

from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import RLock

from storpool_devcluster import answers
from storpool_devcluster.gids import global_id
from storpool_devcluster.records import Attachment, Counters, Template, Volume
from storpool_devcluster.table import Journal, Table

_COUNTERS = "counters"


class State:
    """Kept in memory, with every change in SQLite."""

    def __init__(self, path: Path | str, cluster_id: str) -> None:
        self.cluster_id = cluster_id
        self._lock = RLock()
        self._depth = 0
        self._afterwards: list[Callable[[], None]] = []
        self._by_name: dict[str, str] = {}
        self._children: defaultdict[str, set[str]] = defaultdict(set)
        self._attached: defaultdict[str, dict[int, Attachment]] = defaultdict(dict)
        self._positions: defaultdict[int, set[int]] = defaultdict(set)
        self._journal = Journal(path)
        self.volumes = Table("volume", Volume, self._journal, self._index_volume)
        self.attachments = Table("attachment", Attachment, self._journal, self._index_attachment)
        self.templates = Table("template", Template, self._journal)
        self._counters = Table("counters", Counters, self._journal)

    @property
    def counters(self) -> Counters:
        return self._counters.get(_COUNTERS) or Counters()

    @property
    def generation(self) -> int:
        return self.counters.generation

    @contextmanager
    def change(self) -> Generator[None]:
        """Hold the cluster's lock; commit what was put at the end, or take all of it back."""
        with self._lock:
            self._depth += 1
            try:
                yield
                if self._depth == 1 and self._journal.is_dirty:
                    self._count(generation=self.generation + 1)
                    self._journal.commit()
                if self._depth == 1:
                    self._run_afterwards()
            except BaseException:
                self._journal.roll_back()
                self._afterwards.clear()
                raise
            finally:
                self._depth -= 1

    def afterwards(self, action: Callable[[], None]) -> None:
        """Run it when the change has been committed, and not at all if it is taken back."""
        self._afterwards.append(action)

    def new_gid(self, cluster_id: str | None = None) -> tuple[str, int]:
        number = self.counters.volumes + 1
        self._count(volumes=number)
        return global_id(cluster_id or self.cluster_id, number), number

    def new_template_number(self) -> int:
        number = self.counters.templates + 1
        self._count(templates=number)
        return number

    def find(self, reference: str) -> Volume | None:
        """By name or `~gid`."""
        gid = reference[1:] if reference.startswith("~") else self._by_name.get(reference)
        return None if gid is None else self.volumes.get(gid)

    def volume(self, reference: str) -> Volume:
        found = self.find(reference)
        if found is None or found.snapshot:
            raise answers.missing("Volume", reference)
        return found

    def snapshot(self, reference: str) -> Volume:
        found = self.find(reference)
        if found is None or not found.snapshot or found.deleted:
            raise answers.missing("Snapshot", reference)
        return found

    def template(self, name: str) -> Template:
        found = self.templates.get(name)
        if found is None:
            raise answers.missing("Template", name)
        return found

    def require_free(self, name: str) -> None:
        if name and name in self._by_name:
            raise answers.exists(name)

    def children(self, gid: str) -> list[Volume]:
        found = (self.volumes.get(child) for child in list(self._children.get(gid, ())))
        return [child for child in found if child is not None]

    def attachments_of(self, gid: str) -> dict[int, Attachment]:
        """By client."""
        return dict(self._attached.get(gid, {}))

    def positions(self, client: int) -> set[int]:
        return self._positions[client]

    def put(self, volume: Volume) -> Volume:
        self.volumes.put(volume.gid, volume)
        return volume

    def attach(self, attachment: Attachment) -> None:
        self.attachments.put(f"{attachment.gid}/{attachment.client}", attachment)

    def detach(self, attachment: Attachment) -> None:
        self.attachments.drop(f"{attachment.gid}/{attachment.client}")

    def close(self) -> None:
        with self._lock:
            self._journal.close()

    def _run_afterwards(self) -> None:
        actions, self._afterwards = self._afterwards, []
        for action in actions:
            action()

    def _count(self, **values: int) -> None:
        self._counters.put(_COUNTERS, replace(self.counters, **values))

    def _index_volume(self, before: Volume | None, after: Volume | None) -> None:
        if before is not None:
            if self._by_name.get(before.label) == before.gid:
                del self._by_name[before.label]
            self._children[before.parent].discard(before.gid)
        if after is not None:
            if after.name:
                self._by_name[after.label] = after.gid
            if after.parent:
                self._children[after.parent].add(after.gid)

    def _index_attachment(self, before: Attachment | None, after: Attachment | None) -> None:
        if before is not None:
            self._attached[before.gid].pop(before.client, None)
            self._positions[before.client].discard(before.position)
        if after is not None:
            self._attached[after.gid][after.client] = after
            self._positions[after.client].add(after.position)
