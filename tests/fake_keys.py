# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Keys in memory."""

from dataclasses import dataclass, field

from pydantic import SecretBytes

from storpool_agent.encryption_errors import KeyNotFound
from storpool_commands.encryption import Key


@dataclass
class FakeKeys:
    """By name, be it of a file or of a credential."""

    known: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def passphrase(self, key: Key) -> SecretBytes:
        if key.secret is not None:
            return SecretBytes(key.secret.get_secret_value().encode())
        name = key.file or key.credential or ""
        if name not in self.known:
            raise KeyNotFound(f"there is no key {name}", key=name)
        return SecretBytes(self.known[name])
