# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Machines and disks as libvirt has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID, uuid5

from storpool_commands.disks import IoTune, Mode
from storpool_commands.images import ImageFormat

_SECRETS = UUID("6d1f4d5c-9a0e-4a3b-8d51-2f6c1c7b0a94")


def secret_uuid(global_id: str) -> str:
    """Of the libvirt secret that opens a volume: the same on every host, so that a machine can be migrated as it is."""
    return str(uuid5(_SECRETS, global_id))


@dataclass(frozen=True)
class Domain:
    """A machine as it was when it was looked up."""

    uuid: str
    name: str
    running: bool
    """Running or paused: hot-plug applies."""
    persistent: bool
    """It has a configuration that outlives its present run."""


@dataclass(frozen=True)
class Disk:
    """A disk that a machine is to be given."""

    path: str
    serial: str
    alias: str
    """libvirt's user alias, `ua-...`: the identity of the disk in events and XML."""
    bus: Literal["virtio", "scsi"]
    mode: Mode
    cache: str
    io: str | None
    discard: str
    live: bool
    config: bool
    target: str | None = None
    iothread: int | None = None
    iotune: IoTune | None = None
    secret: str | None = None
    """The UUID of the libvirt secret that opens an encrypted one (`secret_uuid`); None: it is not encrypted."""


@dataclass(frozen=True)
class DiskInDomain:
    """A disk that a machine has."""

    domain: Domain
    path: str
    target: str
    bus: str
    live: bool
    """In the running machine."""
    config: bool
    """In its configuration for the next start."""
    alias: str | None
    serial: str | None
    address: str | None
    mode: Mode = "rw"
    secret: str | None = None
    """The UUID of the libvirt secret that it is opened with; None: the machine has it as it is on the volume."""


@dataclass(frozen=True)
class MirrorTarget:
    """Where a running machine's disk is copied to: a device or an image that is there, of the disk's very size.

    What is in it does not matter: what the disk has as zeroes is written as zeroes. For a `file` of an image this is a
    path that QEMU can open, on a file system that can do what the disk's cache mode asks for (`none`: O_DIRECT).
    With `io='native'` a file system that hangs holds all of QEMU, and so the guest; a device that hangs does not.
    """

    path: str
    format: ImageFormat
    device: bool


@dataclass(frozen=True)
class MachineDisk:
    """A disk, or a drive, of a machine: whatever it is, and wherever its contents are."""

    target: str
    device: str
    path: str | None
    format: str | None
    mode: Mode
    cache: str | None
    encrypted: bool
    bus: str


@dataclass(frozen=True)
class Portrait:
    """What a machine is made of: as it runs, or as it would when it is off."""

    domain: Domain
    paused: bool
    cpu: str | None
    """libvirt's `<cpu>` as another host has to have it."""
    arch: str
    machine_type: str
    domain_type: str
    memory_bytes: int
    vcpus: int
    disks: tuple[MachineDisk, ...]


@dataclass(frozen=True)
class Platform:
    """What a host has to offer for a machine."""

    domain_type: str
    arch: str
    machine_type: str | None
    cpu: str | None


Standing = Literal["absent", "off", "running", "paused", "leaving", "arriving"]
"""`absent`: there is no such machine. `off`: it is configured only. `running`, `paused`: it is there, and no migration
of it is under way. `leaving`, `arriving`: one is, out of this host or into it."""


@dataclass(frozen=True)
class Presence:
    """How a machine stands on one host, at one moment, as that host's libvirt says."""

    standing: Standing
    why: str = ""
    """libvirt's own word for it; for a person."""
    by_migration: bool = False
    """It stands still because its memory has been sent elsewhere; not because somebody, or a disk, has stopped it."""

    @property
    def active(self) -> bool:
        """It has a QEMU here, in whichever state."""
        return self.standing not in ("absent", "off")

    def __str__(self) -> str:
        return f"{self.standing} ({self.why})" if self.why else self.standing


@dataclass(frozen=True)
class Passage:
    """A running machine's way to another host."""

    vm: str
    """Its UUID."""
    name: str
    persistent: bool
    peer: str
    """The other host."""
    bandwidth_bytes_s: int | None = None
    auto_converge: bool = True
    downtime_limit_ms: int | None = None


@dataclass(frozen=True)
class Sent:
    """What a passage has taken, as far as libvirt tells."""

    memory_bytes: int | None = None
    downtime_ms: int | None = None
    total_ms: int | None = None


@dataclass(frozen=True)
class Routes:
    """How this host's libvirt, and this agent, reach other hosts."""

    uri: str = "qemu+tls://{host}/system"
    """Of their libvirt; empty: only those in `uris` are reached."""
    uris: Mapping[str, str] = field(default_factory=dict[str, str])
    address: str = ""
    """Where the machine's memory is sent to; empty: where the other libvirt says."""
    addresses: Mapping[str, str] = field(default_factory=dict[str, str])
    tls: bool = True
    """For the memory, besides what the URI says of libvirt's own connection."""
