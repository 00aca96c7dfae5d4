# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the cluster remembers. Frozen: a change is a new record, so readers need no lock."""

from dataclasses import dataclass, field
from typing import Literal

Limit = int | Literal["-"]
Rights = Literal["rw", "ro"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Where data is placed and how fast it may be read: of a template, taken over by its volumes."""

    replication: int | Literal["-"] = 3
    place_all: str = "ssd"
    place_tail: str = "ssd"
    place_head: str = "ssd"
    reuse_server: bool = False
    bw: Limit = "-"
    iops: Limit = "-"
    limit_type: Literal["total", "perGiB"] = "total"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume or a snapshot: StorPool numbers, names and clones them alike."""

    gid: str
    number: int
    """visibleVolumeId."""
    size_bytes: int
    created_s: int
    snapshot: bool = False
    name: str = ""
    """Empty for an unnamed one, which goes by its global id."""
    parent: str = ""
    """Global id of the snapshot it was cloned from, or that was last made of it."""
    template: str = ""
    policy: Policy = field(default_factory=Policy)
    tags: dict[str, str] = field(default_factory=dict[str, str])
    source: str = ""
    """Snapshots: global id of the volume it was made of."""
    auto_name: bool = False
    bound: bool = False
    """Goes when it has no children and is attached nowhere."""
    transient: bool = False
    deleted: bool = False
    """Stays for its children's sake, cannot be used."""
    delete_at_s: int = 0
    exported_to: tuple[str, ...] = ()
    """Snapshots: the locations that may fetch it."""

    @property
    def label(self) -> str:
        """The name as the API reports it."""
        if self.deleted:
            return f"*{self.name or self.gid}"
        return self.name or f"~{self.gid}"

    @property
    def kind(self) -> str:
        return "Snapshot" if self.snapshot else "Volume"


@dataclass(frozen=True, slots=True)
class Attachment:
    gid: str
    client: int
    rights: Rights
    position: int
    """The N of the node sp-N."""


@dataclass(frozen=True, slots=True)
class Template:
    name: str
    number: int
    parent: str = ""
    size_bytes: int | Literal["-"] = "-"
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Counters:
    """`generation` counts changes of the configuration, `volumes` gives global ids; both never go back."""

    generation: int = 1
    volumes: int = 360
    templates: int = 0
