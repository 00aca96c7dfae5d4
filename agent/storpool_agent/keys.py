# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Passphrases of encrypted volumes, by what a command calls them: read when they are needed, and not kept."""

import os
import stat
from pathlib import Path

from pydantic import SecretBytes

from storpool_agent.encryption_errors import KeyNotFound
from storpool_commands.encryption import Key

MAX_BYTES = 4096
"""Of a passphrase; what is larger is another file."""
OTHERS, GROUP_AND_OTHERS = 0o007, 0o077


class KeyStore:
    """A directory that the settings name, and systemd's credentials. Without state: any thread may ask."""

    def __init__(self, directory: Path, credentials: Path | None) -> None:
        self._directory = directory
        self._credentials = credentials

    def passphrase(self, key: Key) -> SecretBytes:
        """See host.Keys."""
        if key.secret is not None:
            return _usable("the passphrase in the command", key.secret.get_secret_value().encode())
        if key.file is not None:
            return _read(self._directory, key.file, GROUP_AND_OTHERS)
        if self._credentials is None:
            raise KeyNotFound(
                f"systemd has given the agent no credential {key.credential}; add LoadCredential= to its unit",
                key=key.credential,
            )
        # systemd makes them for the unit's user alone; since version 254 with the mode 0440, whose group is root's.
        return _read(self._credentials, key.credential or "", OTHERS)


def _read(directory: Path, name: str, forbidden: int) -> SecretBytes:
    """A regular file of root's or the agent's own, directly there: a link, a fifo or a device is none."""
    path = directory / name
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyNotFound(f"the key {path} cannot be opened: {error.strerror}", key=name) from error
    try:
        _refuse_odd(path, os.fstat(opened), forbidden)
        found = os.read(opened, MAX_BYTES + 2)
    except OSError as error:
        raise KeyNotFound(f"the key {path} cannot be read: {error.strerror}", key=name) from error
    finally:
        os.close(opened)
    return _usable(f"the key {path}", found.removesuffix(b"\n"), key=name)


def _refuse_odd(path: Path, found: os.stat_result, forbidden: int) -> None:
    why = None
    if not stat.S_ISREG(found.st_mode):
        why = "it is no regular file"
    elif found.st_uid not in {0, os.geteuid()}:
        why = f"it belongs to user {found.st_uid}; chown it to root"
    elif found.st_mode & forbidden:
        why = "others may read it; chmod 600 it"
    if why is not None:
        raise KeyNotFound(f"the key {path} is not used: {why}", key=path.name)


def _usable(what: str, passphrase: bytes, **facts: str) -> SecretBytes:
    """QEMU takes nothing but text for a LUKS passphrase. What is wrong with it is said without showing any of it."""
    why = None
    if not passphrase:
        why = "is empty"
    elif len(passphrase) > MAX_BYTES:
        why = f"has more than {MAX_BYTES} bytes"
    elif b"\0" in passphrase or not _is_utf_8(passphrase):
        why = "is not text in UTF-8, which is all that QEMU takes; for random bytes, write them in base64"
    if why is not None:
        raise KeyNotFound(f"{what} {why}", **facts)
    return SecretBytes(passphrase)


def _is_utf_8(passphrase: bytes) -> bool:
    try:
        passphrase.decode()
    except UnicodeDecodeError:
        return False
    return True
