# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why an encrypted volume is not made, or not opened."""

from storpool_agent.errors import AgentError
from storpool_commands.errors import ErrorCode


class EncryptedUnsupported(AgentError):
    """It would take an encrypted volume's bytes to where nobody knows that they are encrypted, or mix the two kinds."""

    code = ErrorCode.ENCRYPTED_UNSUPPORTED


class NotEncrypted(AgentError):
    """The volume is not one that was made to be encrypted, or has not been formatted yet."""

    code = ErrorCode.NOT_ENCRYPTED


class AlreadyEncrypted(AgentError):
    """The volume has been formatted: it is never formatted over."""

    code = ErrorCode.ALREADY_ENCRYPTED


class VolumeNotEmpty(AgentError):
    """A volume that was to be new has something in it."""

    code = ErrorCode.VOLUME_NOT_EMPTY


class KeyRequired(AgentError):
    code = ErrorCode.KEY_REQUIRED


class KeyNotFound(AgentError):
    """There is no key of that name that may be used."""

    code = ErrorCode.KEY_NOT_FOUND


class WrongKey(AgentError):
    code = ErrorCode.WRONG_KEY
