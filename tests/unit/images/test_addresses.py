# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which addresses a download may be made from."""

import socket

import pytest
from pytest_mock import MockerFixture

from storpool_agent.images.foreign.addresses import Allowed
from storpool_agent.images.foreign.reply import Refusal

RESOLVED: dict[str, list[str]] = {
    "public.test": ["93.184.216.34"],
    "inner.test": ["10.1.2.3"],
    "both.test": ["10.1.2.3", "93.184.216.34"],
}


@pytest.fixture(autouse=True)
def _resolver(mocker: MockerFixture) -> None:
    def resolve(host: str, port: int, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(2, 1, 6, "", (address, port)) for address in RESOLVED.get(host.lower().rstrip("."), [host])]

    mocker.patch.object(socket, "getaddrinfo", side_effect=resolve)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("127.8.8.8", id="another loopback"),
        pytest.param("0.0.0.0", id="this host"),  # noqa: S104
        pytest.param("10.0.0.1", id="private"),
        pytest.param("172.16.0.1", id="private of class B"),
        pytest.param("192.168.1.1", id="private of class C"),
        pytest.param("169.254.169.254", id="metadata service"),
        pytest.param("100.64.0.1", id="carrier's NAT"),
        pytest.param("224.0.1.1", id="multicast"),
        pytest.param("255.255.255.255", id="broadcast"),
        pytest.param("192.0.2.1", id="documentation"),
        pytest.param("::1", id="loopback of IPv6"),
        pytest.param("::", id="this host of IPv6"),
        pytest.param("fe80::1", id="link-local"),
        pytest.param("fe80::1%eth0", id="link-local with its link"),
        pytest.param("fd00::1", id="unique local"),
        pytest.param("ff0e::1", id="multicast of IPv6"),
        pytest.param("::ffff:127.0.0.1", id="loopback mapped to IPv6"),
        pytest.param("::ffff:169.254.169.254", id="metadata service mapped to IPv6"),
        pytest.param("64:ff9b::7f00:1", id="loopback through NAT64"),
        pytest.param("64:ff9b::a9fe:a9fe", id="metadata service through NAT64"),
        pytest.param("2002:7f00:1::1", id="loopback through 6to4"),
        pytest.param("2001:0:102:304::80ff:fffe", id="loopback through Teredo"),
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(Refusal, match="no public address") as refused:
        Allowed([]).addresses(address, 80)
    assert refused.value.code == "secondary-not-allowed"


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert Allowed([]).addresses(address, 443) == [address]


@pytest.mark.parametrize(
    ("setting", "host"),
    [
        pytest.param("10.1.2.3", "inner.test", id="address"),
        pytest.param("10.1.0.0/16", "inner.test", id="network"),
        pytest.param("10.1.2.3/8", "inner.test", id="network written with bits of a host"),
        pytest.param("inner.test", "inner.test", id="name"),
        pytest.param("Inner.Test.", "inner.test", id="name in capitals with its dot"),
        pytest.param("inner.test", "INNER.test.", id="URL in capitals with a dot"),
        pytest.param("[::1]", "::1", id="address of IPv6 in brackets"),
        pytest.param("fd00::/8", "fd00::1", id="network of IPv6"),
    ],
)
def test_what_the_settings_name_is_allowed(setting: str, host: str) -> None:
    assert Allowed([setting]).addresses(host, 80)


@pytest.mark.parametrize("setting", ["10.1.2.4", "10.2.0.0/16", "other.test", "test", ".test"])
def test_what_the_settings_do_not_name_stays_refused(setting: str) -> None:
    with pytest.raises(Refusal, match=r"inner\.test is 10\.1\.2\.3, .* web_hosts"):
        Allowed([setting]).addresses("inner.test", 80)


def test_of_several_addresses_only_those_that_are_allowed_are_used() -> None:
    assert Allowed([]).addresses("both.test", 80) == ["93.184.216.34"]
    assert Allowed(["10.0.0.0/8"]).addresses("both.test", 80) == ["10.1.2.3", "93.184.216.34"]


def test_a_name_that_cannot_be_resolved_is_no_refusal(mocker: MockerFixture) -> None:
    mocker.patch.object(socket, "getaddrinfo", side_effect=socket.gaierror(socket.EAI_NONAME, "Name not known"))
    with pytest.raises(OSError, match="Name not known"):
        Allowed([]).addresses("nowhere.test", 80)
