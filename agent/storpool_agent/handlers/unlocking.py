# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes as disks of machines: which may be attached, with which key, and what libvirt is told.

That a volume is encrypted is said by its tag alone: a guest can write a LUKS header, and none, onto its own disk. The
header is what a tagged volume has besides; without it nothing opens it.
"""

from pydantic import SecretBytes

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import KeyRequired, NotEncrypted
from storpool_agent.host import Host
from storpool_agent.storpool.model import Volume
from storpool_commands.encryption import Encryption
from storpool_commands.labels import LUKS, LUKS1


def key_of(volume: Volume, encryption: Encryption | None, host: Host) -> SecretBytes | None:
    """What opens the volume; None for one that is not encrypted. Changes nothing; call it before attaching.

    Raises KeyRequired, NotEncrypted (also for one that encryptVolume has not come to its end with), KeyNotFound.
    """
    if encryption is None:
        if LUKS in volume.tags:
            raise KeyRequired(
                f"volume {volume.global_id} is encrypted: give encryption with its key", volume=volume.global_id
            )
        return None
    refuse_unencrypted(volume)
    return host.keys.passphrase(encryption.key)


def refuse_unencrypted(volume: Volume) -> None:
    """Raises NotEncrypted unless it was made encrypted, and formatted."""
    state = volume.tags.get(LUKS)
    if state is None:
        raise NotEncrypted(
            f"volume {volume.global_id} is not encrypted; send the command without encryption", volume=volume.global_id
        )
    if state != LUKS1:
        raise NotEncrypted(
            f"volume {volume.global_id} is to be encrypted and is not yet ({LUKS}={state}): encryptVolume it first",
            volume=volume.global_id,
        )


def give(volume: Volume, passphrase: SecretBytes | None, host: Host, attempt: Attempt, deadline: Deadline) -> None:
    """Let libvirt open the volume, which is attached here; nothing for one that is not encrypted.

    The passphrase has been proven to be the right one.
    """
    if passphrase is not None:
        with attempt.step("secret", changes=True):
            host.domains.set_secret(volume.global_id, host.devices.link(volume.global_id), passphrase, deadline)


def take_back(volume: Volume, host: Host, attempt: Attempt, deadline: Deadline) -> None:
    """libvirt forgets the secret of a volume that no machine of this host has any more."""
    if LUKS in volume.tags:
        with attempt.step("secret", changes=True):
            host.domains.forget_secret(volume.global_id, deadline)
