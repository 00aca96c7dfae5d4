# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The one parser of the URL of a storage pool, which has the pool's token in it. No error shows any of it.

Two forms are known, `SP_API_HTTP=<host>:<port>;SP_AUTH_TOKEN=<token>;SP_TEMPLATE=<template>`, the keys in any order,
and `storpool://<token>@<host>:<port>/<template>`. CloudStack's own parser passes over keys that it does not know
and makes port -1 of one that is missing (StorPoolUtil.java); here both are errors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import unquote_to_bytes

from pydantic import SecretStr

SCHEME = "storpool://"
KEYS = ("SP_API_HTTP", "SP_AUTH_TOKEN", "SP_TEMPLATE")

_TOKEN = re.compile(r"[\x21-\x7e]+")  # it becomes part of an HTTP header
_WRITTEN_TOKEN = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")  # RFC 3986, userinfo without `:`
_TEMPLATE = re.compile(r"[A-Za-z0-9_-]{1,199}")
_SHOWN_KEY = re.compile(r"SP_[A-Z_]{1,30}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True)
class PoolUrl:
    """What the URL of a pool says."""

    api: str
    """`host:port`, an IPv6 address in brackets."""
    token: SecretStr
    template: str


def parse(url: SecretStr) -> PoolUrl:
    """Read either form. Raises ValueError, whose text repeats nothing but names of keys."""
    text = url.get_secret_value()
    if text.startswith(SCHEME):
        return _parse_url(text.removeprefix(SCHEME))
    if text.startswith("SP_"):
        return _parse_pairs(text)
    raise ValueError(
        "the url is neither SP_API_HTTP=<host>:<port>;SP_AUTH_TOKEN=<token>;SP_TEMPLATE=<template> "
        "nor storpool://<token>@<host>:<port>/<template>"
    )


def _parse_pairs(text: str) -> PoolUrl:
    found: dict[str, str] = {}
    for number, pair in enumerate(text.split(";"), start=1):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"part {number} of the url is not KEY=value")
        if key not in KEYS:
            shown = key if _SHOWN_KEY.fullmatch(key) else f"of part {number}"
            raise ValueError(f"the url has an unknown key {shown}: the keys are {', '.join(KEYS)}")
        if key in found:
            raise ValueError(f"the url has {key} twice")
        found[key] = value
    return _checked(found)


def _parse_url(text: str) -> PoolUrl:
    authority, _, template = text.partition("/")
    token, at, api = authority.rpartition("@")
    if not at:
        raise ValueError("the url has no token and @ before its host: storpool://<token>@<host>:<port>/<template>")
    if token and not _WRITTEN_TOKEN.fullmatch(token):
        raise ValueError("the url's token has characters that have to be percent-encoded")
    decoded = unquote_to_bytes(token).decode("latin-1")
    return _checked({"SP_API_HTTP": api, "SP_AUTH_TOKEN": decoded, "SP_TEMPLATE": template})


def _checked(values: Mapping[str, str]) -> PoolUrl:
    missing = [key for key in KEYS if not values.get(key)]
    if missing:
        raise ValueError(f"the url says nothing of {', '.join(missing)}")
    if not _TOKEN.fullmatch(values["SP_AUTH_TOKEN"]):
        raise ValueError("SP_AUTH_TOKEN, the url's token, has a blank or a character that is not ASCII")
    if not _TEMPLATE.fullmatch(values["SP_TEMPLATE"]):
        raise ValueError("SP_TEMPLATE, the url's template, is not a name of letters, digits, _ and -")
    return PoolUrl(_address(values["SP_API_HTTP"]), SecretStr(values["SP_AUTH_TOKEN"]), values["SP_TEMPLATE"])


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("SP_API_HTTP, the url's address, has no port from 1 to 65535 after its host: <host>:<port>")
    return f"{_host(host)}:{port}"


def _host(text: str) -> str:
    """In one spelling, so that the same address twice is recognised."""
    try:
        if text.startswith("[") and text.endswith("]") and "%" not in text:
            return f"[{IPv6Address(text[1:-1])}]"
        if re.fullmatch(r"[0-9.]+", text):
            return str(IPv4Address(text))
    except AddressValueError:
        raise ValueError("SP_API_HTTP, the url's address, has an IP address that is none") from None
    if not _NAME.fullmatch(text) or ".." in text:
        raise ValueError(
            "SP_API_HTTP, the url's address, has a host that is neither a name, an IPv4 address nor an IPv6 "
            "address in brackets"
        )
    return text.lower()
