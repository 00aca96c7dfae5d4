# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPool in memory, by the rules of the real one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from storpool_agent.deadline import Deadline
from storpool_agent.errors import (
    AgentError,
    NameTaken,
    SnapshotNotFound,
    StillExported,
    StorPoolClientDown,
    StorPoolRefused,
    TemplateNotFound,
    VolumeBusy,
    VolumeNotFound,
)
from storpool_agent.storpool.model import (
    Attachment,
    ClientService,
    NewSnapshot,
    NewVolume,
    Services,
    TemplateSpace,
    Volume,
    VolumeChange,
)
from storpool_commands.disks import Holder, Mode, OnRemoteAttached
from storpool_commands.labels import OPERATION
from storpool_commands.references import Reference


class MemoryDisk:
    """A file without a name. A copy of it, for a comparison, is its contents."""

    def __init__(self, size_bytes: int) -> None:
        self.descriptor = os.memfd_create("volume")
        os.ftruncate(self.descriptor, size_bytes)

    def __del__(self) -> None:
        os.close(self.descriptor)

    def __deepcopy__(self, _: object) -> bytes:
        return self.read()

    def read(self) -> bytes:
        return os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)


@dataclass
class FakeStorPool:
    """What StorPool keeps, and what a test may do to it."""

    our_id: int = 1
    template_names: set[str] = field(default_factory=lambda: {"dev"})
    capacity_bytes: int = 1 << 40
    free_bytes: int = 1 << 39
    clusters: set[str] = field(default_factory=lambda: {"d.n"})
    """Of the multi-cluster; what has no `cluster_id` is made in `d.n`."""
    cluster_status: str = "running"
    volumes: dict[str, Volume] = field(default_factory=dict[str, Volume])
    """By global id; snapshots too."""
    contents: dict[str, str] = field(default_factory=dict[str, str])
    """What is written on a volume, by global id: copied by snapshots, clones and reverts."""
    disks: dict[str, "MemoryDisk"] = field(default_factory=dict[str, "MemoryDisk"])
    """What is on a volume to the byte, by global id, of those whose device somebody has opened."""
    delete_after_s: dict[str, int] = field(default_factory=dict[str, int])
    """Of snapshots that are to go by themselves, by global id."""
    exported: set[str] = field(default_factory=set[str])
    """Global ids of snapshots that another location has."""
    attached: dict[tuple[str, int], Attachment] = field(default_factory=dict[tuple[str, int], Attachment])
    """By global id and client."""
    openers: dict[str, list[Holder]] = field(default_factory=dict[str, list[Holder]])
    """Who has the device open on this host, by global id."""
    client_down: bool = False
    revert_loses_limits: bool = False
    failures: dict[str, list[AgentError]] = field(default_factory=dict[str, list[AgentError]])
    """By the name of a method: what its next calls raise before they do anything."""
    lost_answers: dict[str, list[AgentError]] = field(default_factory=dict[str, list[AgentError]])
    """As `failures`, after they have done it."""
    calls: list[str] = field(default_factory=list[str])
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def add(self, size_bytes: int = 1 << 20, name: str | None = None, *, snapshot: bool = False) -> Volume:
        """An object that was there before."""
        global_id = f"d.n.a{next(self._numbers)}"
        return self._put(Volume(global_id, name or f"~{global_id}", size_bytes, snapshot, template="dev"))

    def attach_elsewhere(self, volume: Volume, client: int, mode: Mode = "rw") -> None:
        self.attached[volume.global_id, client] = Attachment(volume.global_id, client, mode, volume.snapshot)

    def volume(self, reference: Reference, deadline: Deadline) -> Volume:
        self._called("volume")
        return self._find(reference, snapshot=False)

    def snapshot(self, reference: Reference, deadline: Deadline) -> Volume:
        self._called("snapshot")
        return self._find(reference, snapshot=True)

    def attachments(self, deadline: Deadline) -> Sequence[Attachment]:
        self._called("attachments")
        return tuple(self.attached.values())

    def attach(self, volume: Volume, mode: Mode, on_remote_attached: OnRemoteAttached, deadline: Deadline) -> None:
        self._called("attach")
        self._find(volume.reference, snapshot=volume.snapshot)
        if self.client_down:
            raise StorPoolClientDown(f"client {self.our_id} is down", client=self.our_id)
        self.attached[volume.global_id, self.our_id] = Attachment(volume.global_id, self.our_id, mode, volume.snapshot)
        self._answer("attach")

    def detach(self, volume: Volume, deadline: Deadline, *, force: bool = False) -> None:
        self._called("detach")
        here = (volume.global_id, self.our_id)
        if here in self.attached and self.openers.get(volume.global_id) and not force:
            raise VolumeBusy(f"{volume.reference} is open", volume=volume.global_id, client=self.our_id)
        self.attached.pop(here, None)
        self._answer("detach")

    def release(self, volumes: Sequence[Volume], deadline: Deadline, *, force: bool = False) -> None:
        self._called("release")
        for volume in volumes:
            self._find(volume.reference, snapshot=volume.snapshot)
            if (volume.global_id, self.our_id) in self.attached and self.openers.get(volume.global_id) and not force:
                raise VolumeBusy(f"{volume.reference} is open", volume=volume.global_id, client=self.our_id)
        released = {volume.global_id for volume in volumes}
        self.attached = {key: value for key, value in self.attached.items() if value.global_id not in released}
        self._answer("release")

    def create_volume(
        self, wanted: NewVolume, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        self._called("create_volume")
        made = self._made_by(operation, snapshot=False)
        if look_first and made:
            return made[0]
        template = self._check_template(wanted)
        if (taken := self._with_name(wanted.name)) is not None:
            if taken in made:
                return taken
            raise NameTaken(f"{wanted.name} is taken", name=wanted.name)
        global_id = f"{wanted.cluster_id or 'd.n'}.a{next(self._numbers)}"
        origin = wanted.parent or wanted.base_on
        volume = self._put(
            Volume(
                global_id,
                wanted.name or f"~{global_id}",
                wanted.size_bytes,
                snapshot=False,
                template=template,
                tags={**wanted.all_tags, OPERATION: operation},
                iops=wanted.iops or None,
                bandwidth_kib_sec=wanted.bandwidth_kib_sec or None,
                parent=origin.name if origin else "",
            )
        )
        self._copy_content(origin, volume)
        self._answer("create_volume")
        return volume

    def update_volume(self, volume: Volume, change: VolumeChange, deadline: Deadline) -> None:
        self._called("update_volume")
        present = self._find(volume.reference, snapshot=False)
        if change.template is not None and change.template not in self.template_names:
            raise TemplateNotFound(f"no template {change.template}", template=change.template)
        size_bytes = change.size_bytes or present.size_bytes
        if size_bytes < present.size_bytes and not change.shrink_ok:
            raise StorPoolRefused("the volume would shrink", error="invalidParam")
        bandwidth = change.bandwidth_kib_sec
        self.volumes[volume.global_id] = replace(
            present,
            size_bytes=size_bytes,
            template=change.template or present.template,
            iops=present.iops if change.iops is None else change.iops or None,
            bandwidth_kib_sec=present.bandwidth_kib_sec if bandwidth is None else bandwidth or None,
            tags=_merged(present.tags, change.tags),
        )
        self._answer("update_volume")

    def delete_volume(self, volume: Volume, deadline: Deadline) -> None:
        self._called("delete_volume")
        self._require_detached(volume)
        if volume.global_id in self.exported:
            raise StillExported(f"{volume.reference} is still exported", snapshot=volume.global_id)
        gone = self.volumes.pop(volume.global_id, None)
        for each in list(self.volumes.values()):
            if gone is not None and each.parent == gone.name:
                self._put(replace(each, parent=f"*{gone.name.removeprefix('~')}"))
            if gone is not None and each.on_volume == gone.name:
                self._put(replace(each, on_volume=""))
        self._answer("delete_volume")

    def take_snapshot(
        self, volume: Volume, wanted: NewSnapshot, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        self._called("take_snapshot")
        made = self._made_by(operation, snapshot=True)
        if look_first and made:
            return made[0]
        present = self._find(volume.reference, snapshot=False)
        if (taken := self._with_name(wanted.name)) is not None:
            if taken in made:
                return taken
            raise NameTaken(f"{wanted.name} is taken", name=wanted.name)
        snapshot = self._snapshot_of(present, wanted, operation)
        self._answer("take_snapshot")
        return snapshot

    def take_group_snapshot(
        self,
        volumes: Sequence[Volume],
        wanted: NewSnapshot,
        operation: str,
        deadline: Deadline,
        *,
        look_first: bool = False,
    ) -> Sequence[Volume]:
        self._called("take_group_snapshot")
        made = {each.on_volume: each for each in self._made_by(operation, snapshot=True)}
        if look_first and made:
            return tuple(made[volume.name] for volume in volumes)
        present = [self._find(volume.reference, snapshot=False) for volume in volumes]
        snapshots = tuple(self._snapshot_of(each, NewSnapshot(tags=wanted.tags), operation) for each in present)
        self._answer("take_group_snapshot")
        return snapshots

    def volumes_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        self._called("volumes_made_by")
        return self._made_by(operation, snapshot=False)

    def snapshots_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        self._called("snapshots_made_by")
        return self._made_by(operation, snapshot=True)

    def revert_volume(self, volume: Volume, snapshot: Volume, deadline: Deadline, *, revert_size: bool = False) -> None:
        self._called("revert_volume")
        present = self._find(volume.reference, snapshot=False)
        source = self._find(snapshot.reference, snapshot=True)
        self._require_detached(present)
        size_bytes = source.size_bytes if revert_size else present.size_bytes
        reverted = self._put(replace(present, parent=source.name, size_bytes=size_bytes))
        if self.revert_loses_limits:
            self._put(replace(reverted, iops=None, bandwidth_kib_sec=None))
        self._copy_content(source, present)
        self._answer("revert_volume")

    def templates(self, deadline: Deadline) -> Sequence[TemplateSpace]:
        self._called("templates")
        return tuple(self._space(name) for name in sorted(self.template_names))

    def services(self, deadline: Deadline) -> Services:
        self._called("services")
        client = ClientService(self.our_id, "down" if self.client_down else "running", "21.0")
        return Services(self.cluster_status, (client,))

    def wait_for_client(self, deadline: Deadline) -> None:
        self._called("wait_for_client")
        if self.client_down:
            raise StorPoolClientDown(f"client {self.our_id} is down", client=self.our_id)

    def _snapshot_of(self, volume: Volume, wanted: NewSnapshot, operation: str) -> Volume:
        """The snapshot becomes the parent of its volume. That of a named volume gets a name from StorPool."""
        number = next(self._numbers)
        global_id = f"{volume.global_id.rpartition('.')[0]}.a{number}"
        named_by_storpool = f"~{global_id}" if volume.name.startswith("~") else f"{volume.name}@{number}"
        snapshot = self._put(
            replace(
                volume,
                global_id=global_id,
                name=wanted.name or named_by_storpool,
                snapshot=True,
                tags={**wanted.tags_of(volume), OPERATION: operation},
                on_volume=volume.name,
            )
        )
        self._put(replace(volume, parent=snapshot.name))
        self._copy_content(volume, snapshot)
        if wanted.delete_after_s is not None:
            self.delete_after_s[global_id] = wanted.delete_after_s
        return snapshot

    def _check_template(self, wanted: NewVolume) -> str:
        """The name of the new volume's template."""
        parent = wanted.parent and self._find(wanted.parent.reference, snapshot=True)
        if wanted.cluster_id is not None and wanted.cluster_id not in self.clusters:
            raise StorPoolRefused(f"no cluster {wanted.cluster_id}", error="objectDoesNotExist")
        template = wanted.template or (parent.template if parent else "")
        if template not in self.template_names:
            raise TemplateNotFound(f"no template {template}", template=template)
        if parent and wanted.size_bytes < parent.size_bytes:
            raise StorPoolRefused("smaller than its parent", error="invalidParam")
        return template

    def _space(self, template: str) -> TemplateSpace:
        users = [each.snapshot for each in self.volumes.values() if each.template == template]
        return TemplateSpace(
            template, self.capacity_bytes, self.free_bytes, users.count(False), snapshots=users.count(True)
        )

    def _require_detached(self, volume: Volume) -> None:
        if any(global_id == volume.global_id for global_id, _ in self.attached):
            raise VolumeBusy(f"{volume.reference} is attached", volume=volume.global_id)

    def _made_by(self, operation: str, *, snapshot: bool) -> list[Volume]:
        every = self.volumes.values()
        return [each for each in every if each.snapshot == snapshot and each.tags.get(OPERATION) == operation]

    def _with_name(self, name: str | None) -> Volume | None:
        return next((each for each in self.volumes.values() if each.name == name), None)

    def _put(self, volume: Volume) -> Volume:
        self.volumes[volume.global_id] = volume
        return volume

    def disk(self, global_id: str) -> int:
        """A file with the contents of a volume; the volume's own, not to be closed."""
        if global_id not in self.disks:
            self.disks[global_id] = MemoryDisk(self.volumes[global_id].size_bytes)
        return self.disks[global_id].descriptor

    def _copy_content(self, source: Volume | None, target: Volume) -> None:
        if source is not None and source.global_id in self.disks:
            os.pwrite(self.disk(target.global_id), self.disks[source.global_id].read(), 0)
        if source is not None and source.global_id in self.contents:
            self.contents[target.global_id] = self.contents[source.global_id]
        else:
            self.contents.pop(target.global_id, None)

    def _find(self, reference: Reference, *, snapshot: bool) -> Volume:
        for volume in self.volumes.values():
            named = volume.global_id if reference.kind == "id" else volume.name
            if named == reference.value and volume.snapshot == snapshot:
                return volume
        if snapshot:
            raise SnapshotNotFound(f"no snapshot {reference}", snapshot=str(reference))
        raise VolumeNotFound(f"no volume {reference}", volume=str(reference))

    def _called(self, method: str) -> None:
        self.calls.append(method)
        _raise_next(self.failures, method)

    def _answer(self, method: str) -> None:
        _raise_next(self.lost_answers, method)


def _merged(tags: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """An empty value removes the tag."""
    return {name: value for name, value in {**tags, **changes}.items() if value}


def _raise_next(errors: dict[str, list[AgentError]], method: str) -> None:
    if errors.get(method):
        raise errors[method].pop(0)
