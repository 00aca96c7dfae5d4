# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the broker is and how to log in, from a URL; a URL is never repeated, there may be a password in it."""

from typing import Any

import pytest
from pika import PlainCredentials
from pika.credentials import ExternalCredentials

from storpool_commands.client.endpoint import Endpoint, InvalidUrl, Tls, parse


def one(url: str, password: str | None = None) -> Endpoint:
    (endpoint,) = parse(url, password, None)
    return endpoint


@pytest.mark.parametrize(
    ("url", "where", "login"),
    [
        ("amqp://broker", ("broker", 5672, "/"), ("guest", "guest")),
        ("amqp://broker/", ("broker", 5672, "/"), ("guest", "guest")),
        ("amqp://broker/%2F", ("broker", 5672, "/"), ("guest", "guest")),
        ("amqp://mgmt:secret@broker:1/prod", ("broker", 1, "prod"), ("mgmt", "secret")),
        ("amqp://m%40x:s%2Fe%3Ac@[::1]/a%2Fb", ("::1", 5672, "a/b"), ("m@x", "s/e:c")),
        ("amqps://mgmt:secret@broker", ("broker", 5671, "/"), ("mgmt", "secret")),
    ],
)
def test_a_url_says_it_all(url: str, where: tuple[str, int, str], login: tuple[str, str]) -> None:
    endpoint = one(url)
    assert (endpoint.host, endpoint.port, endpoint.vhost) == where
    assert (endpoint.login, endpoint.password) == login
    parameters: Any = endpoint.parameters()
    assert isinstance(parameters.credentials, PlainCredentials)


def test_a_password_from_elsewhere_goes_before_that_of_the_url() -> None:
    assert one("amqp://mgmt:old@broker", "new").password == "new"


@pytest.mark.parametrize(
    "url",
    [
        "http://canary@broker",
        "canary",
        "",
        "amqp://",
        "amqp://mgmt:can/ary@broker",
        "amqp://mgmt:canary@broker:port",
        "amqp://canary@broker",
        "amqp://mgmt:canary@broker/?heartbeat=0",
        "amqp://mgmt:canary@broker/#x",
        "amqp://[canary",
    ],
)
def test_what_is_no_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidUrl) as raised:
        one(url)
    assert "canary" not in f"{raised.value}"
    assert raised.value.__cause__ is None


def test_no_url_is_refused() -> None:
    with pytest.raises(InvalidUrl):
        parse([], None, None)


def test_certificates_need_tls() -> None:
    with pytest.raises(InvalidUrl, match="amqps"):
        parse("amqp://mgmt:secret@broker", None, Tls())


def test_neither_the_password_nor_the_login_is_shown() -> None:
    endpoint = one("amqp://mgmt:canary@broker")
    assert "canary" not in repr(endpoint)
    assert str(endpoint) == "broker:5672"
    assert "canary" not in repr(endpoint.parameters())


def test_without_a_password_the_client_certificate_is_the_login() -> None:
    endpoint = Endpoint("broker", 5671, "/", "mgmt", None, None)
    parameters: Any = endpoint.parameters()
    assert isinstance(parameters.credentials, ExternalCredentials)


def test_a_silent_broker_is_noticed_and_a_blocked_one_is_left() -> None:
    parameters: Any = one("amqp://broker").parameters()
    assert parameters.heartbeat == 10
    assert parameters.blocked_connection_timeout == 120
