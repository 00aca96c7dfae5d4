# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPool, as the handlers see it."""

from collections.abc import Sequence
from typing import Protocol

from storpool_agent.deadline import Deadline
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


class StorPool(Protocol):
    """The StorPool cluster, seen from this host's client id.

    Every call may raise StorPoolUnavailable, StorPoolTimeout, StorPoolBadAnswer, StorPoolUnauthorized and
    StorPoolRefused besides what it names.
    """

    our_id: int

    def volume(self, reference: Reference, deadline: Deadline) -> Volume:
        """Raises VolumeNotFound."""
        ...

    def snapshot(self, reference: Reference, deadline: Deadline) -> Volume:
        """Raises SnapshotNotFound."""
        ...

    def attachments(self, deadline: Deadline) -> Sequence[Attachment]:
        """All of the cluster, no older than this call. Calls that overlap share one request."""
        ...

    def attach(self, volume: Volume, mode: Mode, on_remote_attached: OnRemoteAttached, deadline: Deadline) -> None:
        """Attach to this host, and wait until its client has done so. Already attached is a success.

        Calls that overlap are sent as one request. Raises VolumeNotFound, SnapshotNotFound, StorPoolClientDown,
        ClientNotRegistered, NoAttachmentSlot, VolumeBusy.
        """
        ...

    def detach(self, volume: Volume, deadline: Deadline, *, force: bool = False) -> None:
        """Detach from this host. Not attached, or no such object, is a success.

        Raises VolumeBusy when the device is open; a device that udev is still looking at is waited for.
        """
        ...

    def create_volume(
        self, wanted: NewVolume, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        """Make a volume that carries the tag `sp-op=<operation>`; an answer that is lost makes no second one.

        `look_first`: the request is run again, an earlier run may have made it: that one is then returned. It
        lists all volumes of the cluster.

        Raises TemplateNotFound, SnapshotNotFound (the parent), NameTaken, InsufficientResources.
        """
        ...

    def update_volume(self, volume: Volume, change: VolumeChange, deadline: Deadline) -> None:
        """Raises VolumeNotFound, TemplateNotFound, InsufficientResources."""
        ...

    def delete_volume(self, volume: Volume, deadline: Deadline) -> None:
        """A volume or a snapshot. None such is a success. Raises VolumeBusy when it is attached, StillExported."""
        ...

    def take_snapshot(
        self, volume: Volume, wanted: NewSnapshot, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        """Take a snapshot that carries the tag `sp-op=<operation>`; `look_first` as for create_volume.

        Raises VolumeNotFound, NameTaken, InsufficientResources.
        """
        ...

    def take_group_snapshot(
        self,
        volumes: Sequence[Volume],
        wanted: NewSnapshot,
        operation: str,
        deadline: Deadline,
        *,
        look_first: bool = False,
    ) -> Sequence[Volume]:
        """Take snapshots of all of them at one moment, or of none; returned in the order of the volumes.

        They are unnamed and never expire: `wanted` has their tags alone. Raises VolumeNotFound, InsufficientResources.
        """
        ...

    def volumes_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        """The volumes that carry the tag `sp-op=<operation>`. It lists all volumes of the cluster."""
        ...

    def snapshots_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        """The snapshots that carry the tag `sp-op=<operation>`. It lists all snapshots of the cluster."""
        ...

    def revert_volume(self, volume: Volume, snapshot: Volume, deadline: Deadline, *, revert_size: bool = False) -> None:
        """Give a volume the data of a snapshot. Raises VolumeNotFound, SnapshotNotFound, VolumeBusy (attached)."""
        ...

    def release(self, volumes: Sequence[Volume], deadline: Deadline, *, force: bool = False) -> None:
        """Detach all of them, volumes or snapshots, from all clients. Attached nowhere is a success.

        Raises VolumeBusy when one is open and it is not forced: then none is detached. VolumeNotFound,
        SnapshotNotFound.
        """
        ...

    def templates(self, deadline: Deadline) -> Sequence[TemplateSpace]:
        """All templates of the cluster, with their room."""
        ...

    def services(self, deadline: Deadline) -> Services:
        """What runs in the cluster."""
        ...

    def wait_for_client(self, deadline: Deadline) -> None:
        """Wait until this host's client knows the present configuration of the cluster (ClientConfigWait)."""
        ...
