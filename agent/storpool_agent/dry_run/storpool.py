# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A cluster as it would be after what the command asks for."""

from collections.abc import Sequence
from dataclasses import replace

from storpool_agent.deadline import Deadline
from storpool_agent.errors import NameTaken, SnapshotNotFound, TemplateNotFound, VolumeNotFound
from storpool_agent.host import StorPool
from storpool_agent.storpool.model import (
    Attachment,
    NewSnapshot,
    NewVolume,
    Services,
    TemplateSpace,
    Volume,
    VolumeChange,
)
from storpool_commands.disks import Mode, OnRemoteAttached
from storpool_commands.references import Reference


class DryStorPool:
    """Reads the real one. What StorPool alone would refuse (no room, a limit of its own) is not known here."""

    def __init__(self, real: StorPool) -> None:
        self._real = real
        self.our_id = real.our_id
        self._made: dict[str, Volume] = {}
        self._changed: dict[str, Volume] = {}
        self._deleted: set[str] = set()
        self._attached: dict[str, Attachment] = {}
        self._detached_here: set[str] = set()
        self._released: set[str] = set()

    def volume(self, reference: Reference, deadline: Deadline) -> Volume:
        return self._imagined(reference) or self._present(self._real.volume(reference, deadline), VolumeNotFound)

    def snapshot(self, reference: Reference, deadline: Deadline) -> Volume:
        return self._imagined(reference) or self._present(self._real.snapshot(reference, deadline), SnapshotNotFound)

    def attachments(self, deadline: Deadline) -> Sequence[Attachment]:
        left = [
            one
            for one in self._real.attachments(deadline)
            if one.global_id not in self._released
            and not (one.global_id in self._detached_here and one.client == self.our_id)
        ]
        return (*left, *self._attached.values())

    def templates(self, deadline: Deadline) -> Sequence[TemplateSpace]:
        return self._real.templates(deadline)

    def services(self, deadline: Deadline) -> Services:
        return self._real.services(deadline)

    def wait_for_client(self, deadline: Deadline) -> None:
        pass

    def attach(self, volume: Volume, mode: Mode, on_remote_attached: OnRemoteAttached, deadline: Deadline) -> None:
        self._attached[volume.global_id] = Attachment(volume.global_id, self.our_id, mode, volume.snapshot)

    def detach(self, volume: Volume, deadline: Deadline, *, force: bool = False) -> None:
        self._detached_here.add(volume.global_id)
        self._attached.pop(volume.global_id, None)

    def release(self, volumes: Sequence[Volume], deadline: Deadline, *, force: bool = False) -> None:
        self._released |= {volume.global_id for volume in volumes}

    def create_volume(
        self, wanted: NewVolume, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        self._refuse_name(wanted.name, deadline)
        self._refuse_template(wanted.template, deadline)
        parent = wanted.parent
        return self._make(
            wanted.name,
            wanted.size_bytes,
            snapshot=False,
            template=wanted.template or (parent.template if parent else ""),
            tags=wanted.all_tags,
            parent=str(parent.reference) if parent else "",
        )

    def take_snapshot(
        self, volume: Volume, wanted: NewSnapshot, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        self._refuse_name(wanted.name, deadline)
        return self._snapshot_of(volume, wanted)

    def take_group_snapshot(
        self,
        volumes: Sequence[Volume],
        wanted: NewSnapshot,
        operation: str,
        deadline: Deadline,
        *,
        look_first: bool = False,
    ) -> Sequence[Volume]:
        return [self._snapshot_of(volume, wanted) for volume in volumes]

    def volumes_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        return self._real.volumes_made_by(operation, deadline)

    def snapshots_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        return self._real.snapshots_made_by(operation, deadline)

    def update_volume(self, volume: Volume, change: VolumeChange, deadline: Deadline) -> None:
        self._refuse_template(change.template, deadline)
        self._changed[volume.global_id] = replace(
            volume,
            size_bytes=change.size_bytes or volume.size_bytes,
            template=change.template or volume.template,
            iops=volume.iops if change.iops is None else change.iops or None,
            bandwidth_kib_sec=(
                volume.bandwidth_kib_sec if change.bandwidth_kib_sec is None else change.bandwidth_kib_sec or None
            ),
            tags={name: value for name, value in {**volume.tags, **change.tags}.items() if value},
        )

    def delete_volume(self, volume: Volume, deadline: Deadline) -> None:
        self._deleted.add(volume.global_id)

    def revert_volume(self, volume: Volume, snapshot: Volume, deadline: Deadline, *, revert_size: bool = False) -> None:
        if revert_size:
            self._changed[volume.global_id] = replace(volume, size_bytes=snapshot.size_bytes)

    def _imagined(self, reference: Reference) -> Volume | None:
        return self._made.get(reference.value) if reference.kind == "id" else None

    def _present(self, volume: Volume, missing: type[VolumeNotFound] | type[SnapshotNotFound]) -> Volume:
        if volume.global_id in self._deleted:
            raise missing(f"{volume.reference} would be deleted", volume=volume.global_id)
        return self._changed.get(volume.global_id, volume)

    def _refuse_name(self, name: str | None, deadline: Deadline) -> None:
        """Volumes and snapshots share one namespace."""
        if name is None:
            return
        for look in (self._real.volume, self._real.snapshot):
            try:
                found = look(Reference("name", name), deadline)
            except (VolumeNotFound, SnapshotNotFound):
                continue
            raise NameTaken(f"StorPool has {found.reference} by the name {name}; choose another", name=name)

    def _refuse_template(self, name: str | None, deadline: Deadline) -> None:
        if name is None:
            return
        names = sorted(one.name for one in self._real.templates(deadline))
        if name not in names:
            raise TemplateNotFound(
                f"StorPool has no template {name}; it has {', '.join(names)}", template=name, templates=names
            )

    def _snapshot_of(self, volume: Volume, wanted: NewSnapshot) -> Volume:
        return self._make(
            wanted.name,
            volume.size_bytes,
            snapshot=True,
            template=volume.template,
            tags=wanted.tags_of(volume),
            on_volume=str(volume.reference),
        )

    def _make(self, name: str | None, size_bytes: int, **known: object) -> Volume:
        global_id = f"dry.run.{len(self._made)}"
        made = Volume(global_id, name or f"~{global_id}", size_bytes, **known)  # type: ignore[arg-type]
        self._made[global_id] = made
        return made
