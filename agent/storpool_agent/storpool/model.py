# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What StorPool has, in this agent's words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from storpool_commands.disks import Mode
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
    """None: no limit."""

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


@dataclass(frozen=True)
class NewVolume:
    """A volume that is to be made."""

    size_bytes: int
    template: str
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    iops: int | None = None
    bandwidth_kib_sec: int | None = None


@dataclass(frozen=True)
class VolumeChange:
    """What to change; None leaves it as it is. A tag with an empty value is removed (StorPool merges tags)."""

    size_bytes: int | None = None
    shrink_ok: bool = False
    iops: int | None = None
    """0: no limit."""
    template: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
