# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Passwords in files, and as RabbitMQ keeps them: base64 of a salt of 4 bytes and the SHA-256 of salt and password."""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from storpool_commands.client.provisioning.change import ProvisioningFailed

ALGORITHM = "rabbit_password_hashing_sha256"
PASSWORD_BYTES = 24
SALT_BYTES = 4


def password_in(file: Path) -> str:
    """What is in the file, which is made for its owner alone when it is not there. Raises ProvisioningFailed."""
    try:
        if not file.exists():
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
                made.write(secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
        password = file.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except OSError as error:
        raise ProvisioningFailed(f"{file}: {error.strerror}") from error
    if not password:
        raise ProvisioningFailed(f"{file}: no password in its first line")
    return password


def hashed(password: str, salt: bytes | None = None) -> str:
    """As RabbitMQ keeps it."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def is_hash_of(kept: str, password: str) -> bool:
    """Whether this is what RabbitMQ keeps of the password."""
    try:
        salt = base64.b64decode(kept)[:SALT_BYTES]
    except binascii.Error:
        return False
    return hmac.compare_digest(hashed(password, salt), kept)
