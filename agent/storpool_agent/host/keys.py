# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Keys of encrypted volumes, as the handlers see them."""

from typing import Protocol

from pydantic import SecretBytes

from storpool_commands.encryption import Key


class Keys(Protocol):
    """Where this host's keys are."""

    def passphrase(self, key: Key) -> SecretBytes:
        """The bytes that open the volume: of a file one newline at its end is none of them.

        Raises KeyNotFound when there is no such key, or it may not be used: others can read it, it is a link, it is
        empty, longer than 4096 bytes, or no text in UTF-8.
        """
        ...
