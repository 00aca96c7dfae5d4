# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What StorPool has, in this agent's words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from storpool_commands.disks import Mode
from storpool_commands.labels import LUKS
from storpool_commands.references import Reference


@dataclass(frozen=True)
class Volume:
    """A volume, or a snapshot: StorPool keeps both in one namespace."""

    global_id: str
    name: str
    size_bytes: int
    snapshot: bool
    template: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    iops: int | None = None
    """None: no limit; so for the bandwidth."""
    bandwidth_kib_sec: int | None = None
    parent: str = ""
    """The name or `~<global id>` of the snapshot that it was made from."""
    on_volume: str = ""
    """Of a snapshot: the name or `~<global id>` of its volume, while that is the last one made from it."""

    @property
    def reference(self) -> Reference:
        """By global id: a name may have moved to another volume since."""
        return Reference("id", self.global_id)


@dataclass(frozen=True)
class Attachment:
    """One volume or snapshot at one client."""

    global_id: str
    client: int
    mode: Mode
    snapshot: bool = False


def inherited(origin: Volume | None) -> dict[str, str]:
    """The tags that whatever is made of a volume or snapshot has, too. StorPool itself copies none."""
    return {} if origin is None or LUKS not in origin.tags else {LUKS: origin.tags[LUKS]}


@dataclass(frozen=True)
class NewVolume:
    """A volume that is to be made."""

    size_bytes: int
    template: str | None
    """None: that of the parent."""
    name: str | None = None
    parent: Volume | None = None
    """The snapshot that it begins as a copy of."""
    base_on: Volume | None = None
    """The volume that it begins as a copy of, as that is at this moment."""
    cluster_id: str | None = None
    """None: the cluster that the API belongs to."""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    iops: int | None = None
    bandwidth_kib_sec: int | None = None

    @property
    def all_tags(self) -> dict[str, str]:
        """With those that come with what it is a copy of."""
        return {**inherited(self.parent or self.base_on), **self.tags}


@dataclass(frozen=True)
class NewSnapshot:
    """A snapshot that is to be taken."""

    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    delete_after_s: int | None = None

    def tags_of(self, volume: Volume) -> dict[str, str]:
        """With those that come with the volume that it is taken of."""
        return {**inherited(volume), **self.tags}


@dataclass(frozen=True)
class VolumeChange:
    """What to change; None leaves it as it is. A tag with an empty value is removed (StorPool merges tags)."""

    size_bytes: int | None = None
    shrink_ok: bool = False
    iops: int | None = None
    """0: no limit; so for the bandwidth."""
    bandwidth_kib_sec: int | None = None
    template: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class TemplateSpace:
    """A template and the room that StorPool sees for it."""

    name: str
    capacity_bytes: int
    free_bytes: int
    volumes: int
    snapshots: int


@dataclass(frozen=True)
class ClientService:
    """A host in the cluster."""

    client: int
    status: str
    version: str | None


@dataclass(frozen=True)
class Services:
    """What runs in the cluster."""

    cluster_status: str
    clients: Sequence[ClientService]
