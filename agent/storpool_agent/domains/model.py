# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Machines and disks as libvirt has them."""

from dataclasses import dataclass
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
