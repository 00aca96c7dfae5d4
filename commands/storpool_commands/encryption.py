# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Keys of encrypted volumes, on the wire."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from storpool_commands.wire import Secret, WireModel

KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
"""One file name: a key is named, a path is never taken from a message."""


class Key(WireModel):
    """Where the passphrase of an encrypted volume is: exactly one of the three."""

    file: KeyName | None = None
    """A file in the directory of keys of the host's settings."""
    credential: KeyName | None = None
    """A credential that systemd has given the agent (`LoadCredential=`, `LoadCredentialEncrypted=`)."""
    secret: Secret | None = None
    """The passphrase itself. It is never stored: a request with one that the agent did not survive is answered
    `secret-not-kept`."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.file, self.credential, self.secret)) != 1:
            raise ValueError("give one of file, credential and secret")
        if self.secret is not None and not self.secret.get_secret_value():
            raise ValueError("the passphrase is empty")
        return self


class Encryption(WireModel):
    """How an encrypted disk is opened: LUKS, by QEMU's own driver."""

    key: Key
