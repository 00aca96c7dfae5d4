# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the broker is and how to log in there."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from pika import ConnectionParameters, PlainCredentials, SSLOptions
from pika.credentials import ExternalCredentials

from storpool_commands.client.reasons import Login

HEARTBEAT_S = 10  # a silent partition is noticed within 30 s (pika misses two before it gives up)
CONNECT_TIMEOUT_S = 5.0  # TCP only
HANDSHAKE_TIMEOUT_S = 10.0  # TCP, TLS and AMQP together
BLOCKED_TIMEOUT_S = 120.0  # a broker short of memory or disk; pika's default would wait for ever


class InvalidUrl(ValueError):
    """A URL that is none, or lacks something. The message does not repeat it: there may be a password in it."""


@dataclass(frozen=True)
class Tls:
    """Files in PEM. With a certificate the client logs in by it (SASL EXTERNAL) and needs no password."""

    ca: Path | None = None
    """Default: the authorities that the system trusts."""
    cert: Path | None = None
    key: Path | None = None
    """Default: in the file of the certificate."""

    def context(self) -> ssl.SSLContext:
        """Always verifies the broker's certificate and name."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


@dataclass(frozen=True)
class Endpoint:
    """One broker."""

    host: str
    port: int
    vhost: str
    login: str | None
    """None when the broker takes it from the client certificate and the URL does not name it."""
    password: str | None = field(repr=False)
    """None: log in by the client certificate."""
    context: ssl.SSLContext | None = field(repr=False)

    def __str__(self) -> str:
        """For messages: without the login."""
        return f"{self.host}:{self.port}"

    @property
    def account(self) -> Login:
        """For messages."""
        return Login(str(self), self.vhost, self.login if self.password else None)

    def parameters(self) -> ConnectionParameters:
        """What pika takes."""
        if self.login is None or self.password is None:
            credentials: PlainCredentials | ExternalCredentials = ExternalCredentials()
        else:
            credentials = PlainCredentials(self.login, self.password)
        return ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=credentials,
            ssl_options=SSLOptions(self.context, self.host) if self.context else None,
            heartbeat=HEARTBEAT_S,
            socket_timeout=CONNECT_TIMEOUT_S,
            stack_timeout=HANDSHAKE_TIMEOUT_S,
            blocked_connection_timeout=BLOCKED_TIMEOUT_S,
            client_properties={"product": "storpool-commands"},
        )


def parse(urls: str | Sequence[str], password: str | None, tls: Tls | None) -> tuple[Endpoint, ...]:
    """Read `amqp(s)://[login[:password]@]host[:port][/vhost]`, one or several brokers of one cluster.

    Without a login it is RabbitMQ's own for development, guest. Raises InvalidUrl.
    """
    listed = [urls] if isinstance(urls, str) else urls
    if not listed:
        raise InvalidUrl("no URL of a broker")
    return tuple(_parse_one(url, password, tls) for url in listed)


def _parse_one(url: str, password: str | None, tls: Tls | None) -> Endpoint:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidUrl("not a URL; characters such as / and @ in a password are written %2F and %40") from None
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname or parts.query or parts.fragment:
        raise InvalidUrl("must be amqp://login@host/vhost or amqps://login@host/vhost")
    secure = parts.scheme == "amqps"
    if tls is not None and not secure:
        raise InvalidUrl("certificates need an amqps:// URL")
    login, secret = _login(parts, password, by_certificate=tls is not None and tls.cert is not None)
    return Endpoint(
        host=parts.hostname,
        port=port or (5671 if secure else 5672),
        vhost=unquote(parts.path[1:]) or "/",
        login=login,
        password=secret,
        context=(tls or Tls()).context() if secure else None,
    )


def _login(parts: SplitResult, password: str | None, *, by_certificate: bool) -> tuple[str | None, str | None]:
    login = unquote(parts.username) if parts.username else None
    if by_certificate:
        return login, None
    if password is None and parts.password is not None:
        password = unquote(parts.password)
    if login is None:
        return "guest", password or "guest"
    if password is None:
        raise InvalidUrl("a login needs a password or a client certificate")
    return login, password
