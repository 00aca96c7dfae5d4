# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What pika's exceptions mean, in one line for a person."""

from ssl import SSLCertVerificationError

from pika.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ChannelClosed,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    ConnectionClosed,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

_KNOWN: dict[type[BaseException], str] = {
    ProbableAuthenticationError: "the broker refused the login",
    ProbableAccessDeniedError: "the login has no access to this vhost, or there is no such vhost",
    ConnectionBlockedTimeout: "the broker is short of memory or disk and takes no messages",
}

_HOPELESS = (AuthenticationError, ProbableAuthenticationError, ProbableAccessDeniedError, SSLCertVerificationError)


def reason(error: BaseException) -> str:
    """The innermost cause, without pika's wrapping. Never contains the password: pika puts it in no exception."""
    for kind, text in _KNOWN.items():
        if isinstance(error, kind):
            return text
    if isinstance(error, AuthenticationError):
        return f"the broker offers no login by {error}"
    if isinstance(error, ConnectionClosed | ChannelClosed):
        return f"{error.reply_text} ({error.reply_code})"
    inner = _inner(error)
    return reason(inner) if inner is not None else f"{type(error).__name__}: {error}".removesuffix(": ")


def hopeless(error: BaseException) -> bool:
    """Trying again will not help before somebody changes something."""
    if isinstance(error, _HOPELESS):
        return True
    if isinstance(error, ChannelClosedByBroker):  # a reply queue that is in use is one whose owner may go
        return error.reply_code in {403, 404, 406} and "exclusive use" not in error.reply_text
    inner = _inner(error)
    return inner is not None and hopeless(inner)


def _inner(error: BaseException) -> BaseException | None:
    if isinstance(getattr(error, "exception", None), BaseException):  # AMQPConnectorPhaseErrorBase
        return error.exception  # type: ignore[attr-defined,no-any-return]
    if isinstance(error, AMQPConnectionError) and error.args and isinstance(error.args[0], BaseException):
        return error.args[0]
    attempts = getattr(error, "exceptions", None)  # AMQPConnectionWorkflowFailed
    return attempts[-1] if attempts else None
