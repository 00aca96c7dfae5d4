# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes as disks of machines: which may be attached, with which key, and what libvirt is told.

That a volume is encrypted is said by its tag alone: a guest can write a LUKS header onto its own disk. The header is
what a tagged volume has besides; without one nothing opens it.
"""

from pydantic import SecretBytes

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.encryption_errors import EncryptedUnsupported, KeyRequired, NotEncrypted
from storpool_agent.handlers import connecting
from storpool_agent.handlers.copying import closed_after
from storpool_agent.host import Host
from storpool_agent.images import luks
from storpool_agent.images.luks import Luks
from storpool_agent.images.model import Image
from storpool_agent.storpool.model import Volume
from storpool_agent.task import Task
from storpool_commands.encryption import Encryption
from storpool_commands.labels import LUKS

UNDO_TIMEOUT_S = 15.0


def key_of(volume: Volume, encryption: Encryption | None, host: Host) -> SecretBytes | None:
    """What opens the volume; None for one that is not encrypted. Changes nothing; call it before attaching.

    Raises KeyRequired, NotEncrypted (also for one that encryptVolume has not come to its end with), KeyNotFound.
    """
    if encryption is None:
        if LUKS in volume.tags:
            raise KeyRequired(
                f"volume {volume.global_id} is encrypted: give encryption, with its key", volume=volume.global_id
            )
        return None
    if LUKS not in volume.tags:
        raise NotEncrypted(
            f"volume {volume.global_id} is not encrypted; send the command without encryption", volume=volume.global_id
        )
    connecting.refuse_unformatted(volume)
    return host.keys.passphrase(encryption.key)


def prove(volume: Volume, device: Device, passphrase: SecretBytes | None, host: Host, attempt: Attempt) -> int | None:
    """How many bytes a machine sees of an attached volume that this opens; None for one that is not encrypted.

    Raises WrongKey, NotEncrypted (a tag, and no header).
    """
    if passphrase is None:
        return None
    with attempt.step("unlock"), luks.sealed(passphrase) as key:
        descriptor = host.devices.open(device, "ro")
        with closed_after(descriptor):
            image = Image(descriptor, "raw", device.link, device=True, luks=key)
            task = quiet_task(attempt)
            if attempt.plans:
                return None
            header = header_of(volume, image, host, task)
            host.images.unlock(image, task)
    return device.size_bytes - header.payload_offset_bytes


def payload_offset(volume: Volume, device: Device, host: Host, attempt: Attempt) -> int:
    """Where the disk begins on an attached encrypted volume, in bytes. Raises NotEncrypted."""
    descriptor = host.devices.open(device, "ro")
    with closed_after(descriptor):
        image = Image(descriptor, "raw", device.link, device=True)
        return header_of(volume, image, host, quiet_task(attempt)).payload_offset_bytes


def header_of(volume: Volume, image: Image, host: Host, task: Task) -> Luks:
    """Raises NotEncrypted when there is none, CopyFailed when it is damaged."""
    header = luks.parse(host.images.read(image, 0, luks.HEADER_BYTES, task))
    if header is None:
        raise NotEncrypted(
            f"volume {volume.global_id} has the tag {LUKS}, but no LUKS header: it was written to, or reverted, by "
            "others; look at its snapshots",
            volume=volume.global_id,
        )
    return header


def quiet_task(attempt: Attempt) -> Task:
    """Work of a moment, which nobody watches."""
    return Task(attempt.interrupt, lambda _done, _total: None, io_priority="normal")


def give(volume: Volume, passphrase: SecretBytes | None, host: Host, attempt: Attempt, deadline: Deadline) -> None:
    """Let libvirt open the volume; nothing for one that is not encrypted. Only what `prove` has tried."""
    if passphrase is not None:
        with attempt.step("secret", changes=True):
            host.domains.set_secret(volume.global_id, host.devices.link(volume.global_id), passphrase, deadline)


def take_back(volume: Volume, host: Host, attempt: Attempt, deadline: Deadline) -> None:
    """libvirt forgets the secret of a volume that no machine of this host has any more. None is a success."""
    if LUKS in volume.tags:
        with attempt.step("secret", changes=True):
            host.domains.forget_secret(volume.global_id, deadline)


def undo(volume: Volume, host: Host, attempt: Attempt) -> None:
    """Take back what `give` did."""
    if LUKS in volume.tags:
        with attempt.undo("secret"):
            host.domains.forget_secret(volume.global_id, Deadline.after(UNDO_TIMEOUT_S))


def refuse_copying(volume: Volume) -> None:
    """What is copied to a file has no tag that says that it is encrypted, and its header no key. Raises
    EncryptedUnsupported."""
    if LUKS in volume.tags:
        kind = "snapshot" if volume.snapshot else "volume"
        raise EncryptedUnsupported(
            f"{kind} {volume.global_id} is encrypted, and is not copied out of StorPool; snapshots of it there are "
            "possible (takeSnapshot)",
            volume=volume.global_id,
        )


def refuse_mixing(volume: Volume, snapshot: Volume) -> None:
    """The data of an encrypted volume goes back to that of an encrypted one alone. Raises EncryptedUnsupported."""
    before, after = volume.tags.get(LUKS), snapshot.tags.get(LUKS)
    if before != after:
        raise EncryptedUnsupported(
            f"volume {volume.global_id} is {_said(before)}, snapshot {snapshot.global_id} is {_said(after)}: the one "
            "cannot have the data of the other; make a volume from the snapshot",
            volume=volume.global_id,
            snapshot=snapshot.global_id,
        )


def _said(state: str | None) -> str:
    return "not encrypted" if state is None else f"marked {LUKS}={state}"
