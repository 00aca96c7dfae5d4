# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why there is no connection to the broker, in a line that says what to mend. pika puts no password into its errors."""

import ssl

from pika.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ChannelClosed,
    ConnectionBlockedTimeout,
    ConnectionClosed,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

_KNOWN: dict[type[BaseException], str] = {
    ProbableAuthenticationError: "the broker refused the login: is the user there, is its password the one set here?",
    ProbableAccessDeniedError: "the user has no access to this vhost, or there is none of this name",
    ConnectionBlockedTimeout: "the broker is short of memory or disk and takes no messages",
}
_BROKERS_CERTIFICATE = "the broker's certificate is refused"
_ALERTS: dict[str, str] = {
    "CERTIFICATE_REQUIRED": "the broker wants a client certificate: set cert and key",
    "UNKNOWN_CA": "the broker does not know the authority that signed our certificate (cert)",
    "CERTIFICATE_EXPIRED": "the broker says that our certificate (cert) has expired",
    "BAD_CERTIFICATE": "the broker refuses our certificate (cert), or wants one and got none",
    "CERTIFICATE_UNKNOWN": "the broker refuses our certificate (cert)",
    "CERTIFICATE_REVOKED": "the broker says that our certificate (cert) is revoked",
    "HANDSHAKE_FAILURE": "the broker ended the TLS handshake: does it want a client certificate (cert, key)?",
    "WRONG_VERSION_NUMBER": "what listens there speaks no TLS: is the port right?",
}
"""OpenSSL's name of an error, or a part of it -> what it means here."""


_ENDED = (
    "the broker ended the connection at its beginning: does it want a client certificate (cert, key), does it refuse"
    " ours, or is TLS on one side alone (amqp, amqps, port)?"
)
"""Its alert, which would say which, is lost when we were faster to write (TLS 1.3)."""


def reason(error: BaseException) -> str:
    """The innermost cause."""
    for kind, text in _KNOWN.items():
        if isinstance(error, kind):
            return text
    if isinstance(error, AuthenticationError):
        return f"the broker offers no login by {error}"
    if isinstance(error, ConnectionClosed | ChannelClosed):
        return f"{error.reply_text} ({error.reply_code})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{_BROKERS_CERTIFICATE}: {error.verify_message}"
    inner = _inner(error)
    return reason(inner) if inner is not None else _said(error)


def _said(error: BaseException) -> str:
    """What the broker's TLS says of our certificate comes after the handshake, and pika 1.4.4 keeps its text alone."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    told = next((meaning for alert, meaning in _ALERTS.items() if alert in text), None)
    if told is None and isinstance(error, IncompatibleProtocolError):
        told = _ENDED
    return f"{told} ({text})" if told else text


def _inner(error: BaseException) -> BaseException | None:
    found: object = getattr(error, "exception", None)  # AMQPConnectorPhaseErrorBase
    if attempts := getattr(error, "exceptions", None):  # AMQPConnectionWorkflowFailed
        found = attempts[-1]
    elif found is None and isinstance(error, AMQPConnectionError) and error.args:
        found = error.args[0]
    return found if isinstance(found, BaseException) else None
