# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""encryptVolume: the copy job that makes a volume an encrypted one."""

from typing import Literal

from storpool_commands.encryption import Key
from storpool_commands.images import CopyOptions
from storpool_commands.references import ObjectRef
from storpool_commands.volumes import InPool
from storpool_commands.wire import AnswerModel, CommandModel, Generation


class EncryptedVolume(AnswerModel):
    """A volume with a LUKS header that the key opens, as was tried."""

    command: Literal["encryptVolume"] = "encryptVolume"
    global_id: str
    size_bytes: int
    """Of the volume, its header included."""
    payload_size_bytes: int
    """Of the disk that a machine sees."""
    luks_uuid: str
    cipher: str
    """As cryptsetup writes it: `aes-xts-plain64`."""
    snapshot: str | None
    """The global id of the snapshot whose contents it has; null: none, and it is to be formatted by its guest."""
    block_hash: str | None
    """Of those contents, the same on both sides."""
    copies: int
    """How often it was begun: more than once when the agent died meanwhile."""


class EncryptVolume(InPool, CopyOptions, CommandModel[EncryptedVolume]):
    """Format a volume that was made with `encrypted: true` as LUKS; for a root disk, fill it from a template.

    Never over anything: the volume is attached nowhere, has not been formatted before (`already-encrypted`), and nobody
    has written to it (`volume-not-empty`). It can be used only when its header was read back, its key has opened it,
    and its contents were compared with the snapshot's. What does not come to that end can be sent again with a new id.
    """

    command: Literal["encryptVolume"] = "encryptVolume"
    volume: ObjectRef
    key: Key
    """The passphrase that opens it from then on; nobody can find it out again."""
    source_snapshot: ObjectRef | None = None
    """The snapshot of a template, for a disk that a machine boots from. Default: none, an empty disk."""
    generation: Generation | None = None
