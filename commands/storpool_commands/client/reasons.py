# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What pika's exceptions mean, in a line that says what to mend: the agent's log and storpool-ctl have the same.

No password comes into it: pika 1.4.4 puts none into its exceptions.
"""

import re
import ssl
from dataclasses import dataclass
from socket import gaierror

from pika.exceptions import (
    AMQPConnectionError,
    AMQPHeartbeatTimeout,
    AuthenticationError,
    ChannelClosed,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    ConnectionClosed,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)


@dataclass(frozen=True)
class Login:
    """Where, and as whom: what a broker that refuses it does not repeat."""

    broker: str
    """`host:port`."""
    vhost: str
    user: str | None
    """None: whom the client certificate names, there is no password."""

    @property
    def who(self) -> str:
        return f"user {self.user}" if self.user else "the user of our certificate (cert)"


@dataclass(frozen=True)
class Hints:
    """What whoever asks can mend, in the terms of its own settings."""

    vhost: str
    """After: there is no such vhost."""
    refused: str
    """After what the broker says to an operation that it does not allow."""
    missing: str
    """After what it says to one on an exchange or queue that is not there."""


CLIENTS = Hints(
    vhost="the path of the URL names it, and without a path it is /",
    refused="the user may not do this: `storpool-ctl provision` sets what users may",
    missing="is the vhost right that the URL names, and has `storpool-ctl provision objects` made them there?",
)

_HOPELESS = (AuthenticationError, ProbableAuthenticationError, ProbableAccessDeniedError, ssl.SSLCertVerificationError)
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
_OS_ERROR = re.compile(r"Error\(-?\d+, '([^']+)'")
"""An error of the operating system, of which pika has kept the text alone."""
REFUSED, MISSING = 403, 404


def reason(error: BaseException, login: Login, hints: Hints = CLIENTS) -> str:
    """The innermost cause."""
    if isinstance(error, ConnectionClosed | ChannelClosed):
        return _closed(error, hints)
    if isinstance(error, ConnectionBlockedTimeout):
        return "the broker is short of memory or disk and takes no messages"
    if isinstance(error, AMQPHeartbeatTimeout):
        return f"no sign of life came from the broker {login.broker}"
    if refused := _refused(error, login, hints):
        return refused
    inner = _inner(error)
    return reason(inner, login, hints) if inner is not None else _transport(error, login)


def hopeless(error: BaseException) -> bool:
    """Trying again will not help before somebody changes something."""
    if isinstance(error, _HOPELESS):
        return True
    if isinstance(error, ChannelClosedByBroker):  # a reply queue that is in use is one whose owner may go
        return error.reply_code in {REFUSED, MISSING, 406} and "exclusive use" not in error.reply_text
    inner = _inner(error)
    return inner is not None and hopeless(inner)


def _refused(error: BaseException, login: Login, hints: Hints) -> str | None:
    if isinstance(error, ProbableAuthenticationError):
        return _login_refused(login)
    if isinstance(error, ProbableAccessDeniedError):
        return _no_access(str(error), login, hints)
    if isinstance(error, AuthenticationError):
        return f"the broker {login.broker} offers no login by {error.args[0] if error.args else 'this method'}"
    return None


def _login_refused(login: Login) -> str:
    if login.user is None:
        return f"the broker refused the login at vhost {login.vhost} by our certificate (cert): is its user there?"
    return (
        f"the broker refused the login of user {login.user} (for vhost {login.vhost}): is the user there, is its "
        "password the one set here?"
    )


def _no_access(text: str, login: Login, hints: Hints) -> str:
    """RabbitMQ says which of the two it is."""
    if "not found" in text:
        return f"the broker {login.broker} has no vhost {login.vhost}: {hints.vhost}"
    if "refused for user" in text:
        return f"{login.who} has no access to vhost {login.vhost}: `storpool-ctl provision` gives it"
    return f"{login.who} has no access to vhost {login.vhost}, or there is none of this name: {hints.vhost}"


def _closed(error: ConnectionClosed | ChannelClosed, hints: Hints) -> str:
    hint = {REFUSED: hints.refused, MISSING: hints.missing}.get(error.reply_code)
    said = f"{error.reply_text} ({error.reply_code})"
    return f"{said}: {hint}" if hint and isinstance(error, ChannelClosedByBroker) else said


def _transport(error: BaseException, login: Login) -> str:
    """TCP and TLS. What the broker's TLS says of our certificate comes after the handshake, and in a text alone."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is refused: {error.verify_message}"
    text = f"{type(error).__name__}: {error}"
    if told := next((meaning for alert, meaning in _ALERTS.items() if alert in text), None):
        return told
    if isinstance(error, IncompatibleProtocolError):
        return _ENDED
    return _not_reached(error, login) or _lost(error, text, login)


def _not_reached(error: BaseException, login: Login) -> str | None:
    if isinstance(error, gaierror):
        return f"the broker's name cannot be looked up ({login.broker}): {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {login.broker}"
    if isinstance(error, TimeoutError) or type(error).__name__ == "AMQPConnectorStackTimeout":
        return f"{login.broker} does not answer in time"
    return None


def _lost(error: BaseException, text: str, login: Login) -> str:
    said = getattr(error, "strerror", None) or ((found := _OS_ERROR.search(text)) and found[1])
    if said:
        return f"the connection to {login.broker} was lost: {said}"
    if isinstance(error, StreamLostError):
        return f"{login.broker} ended the connection"
    return f"no connection to {login.broker}: {error}".removesuffix(": ")


def _inner(error: BaseException) -> BaseException | None:
    found: object = getattr(error, "exception", None)  # AMQPConnectorPhaseErrorBase
    if attempts := getattr(error, "exceptions", None):  # AMQPConnectionWorkflowFailed
        found = attempts[-1]
    elif found is None and isinstance(error, AMQPConnectionError) and error.args:
        found = error.args[0]
    return found if isinstance(found, BaseException) else None
