# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How this host reaches its broker: address, TLS, and as whom it logs in."""

import ssl
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from storpool_agent.secret_files import read_secret, secret_file
from storpool_agent.settings import Amqp, SettingsInvalid


def tls_context(amqp: Amqp) -> ssl.SSLContext | None:
    """None for an `amqp://` URL. The broker's certificate and name are always verified. Raises SettingsInvalid."""
    if urlsplit(amqp.url.get_secret_value()).scheme != "amqps":
        return None
    try:
        context = ssl.create_default_context(cafile=amqp.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if amqp.cert and amqp.key:
            context.load_cert_chain(amqp.cert, secret_file(amqp.key), password=_no_passphrase)
    except OSError as error:
        raise SettingsInvalid(f"amqp: ca, cert or key: {error}") from error
    return context


def _no_passphrase() -> str:
    """Instead of OpenSSL's own question at the terminal."""
    raise OSError("the key is encrypted; take one that is not, in a file for root alone")


def login(amqp: Amqp) -> tuple[str | None, SecretStr | None]:
    """User and password for the broker. Raises SettingsInvalid.

    No password: the broker takes the user from the certificate, and the one in the URL, if any, is the same, for
    `user_id` of what we publish.
    """
    url = urlsplit(amqp.url.get_secret_value())
    user = unquote(url.username) if url.username else None
    if amqp.password_file and user is None:
        raise SettingsInvalid(
            "amqp: password_file is the password of the user whom url names, and it names none: amqp://USER@..."
        )
    if amqp.password_file and url.password:
        raise SettingsInvalid(
            "amqp: url has a password already (that of its default is guest's): name the user alone, amqp://USER@..."
        )
    password = read_secret(amqp.password_file) if amqp.password_file else None
    if url.password and password is None:
        password = SecretStr(unquote(url.password))
    if amqp.cert and (user or not password):
        return user, password
    if user and not password:
        raise SettingsInvalid(f"amqp: {user} needs a password (password_file), or a client certificate (cert, key)")
    return user or "guest", password or SecretStr("guest")


def broker_address(amqp: Amqp) -> tuple[str, int]:
    """Host and port of the URL."""
    url = urlsplit(amqp.url.get_secret_value())
    return url.hostname or "", url.port or (5671 if url.scheme == "amqps" else 5672)
