# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Both forms of a pool's URL, and everything that looks like one. What is wrong is named, and never shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from storpool_agent.pool_url import KEYS, PoolUrl, parse

CANARY = "canary4711"


def pairs(api: str = "mgmt:81", token: str = CANARY, template: str = "ssd") -> str:
    return f"SP_API_HTTP={api};SP_AUTH_TOKEN={token};SP_TEMPLATE={template}"


def read(text: str) -> tuple[str, str, str]:
    found = parse(SecretStr(text))
    return found.api, found.token.get_secret_value(), found.template


@pytest.mark.parametrize(
    ("text", "api", "token"),
    [
        pytest.param(pairs(), "mgmt:81", CANARY, id="pairs"),
        pytest.param(f"SP_TEMPLATE=ssd;SP_API_HTTP=mgmt:81;SP_AUTH_TOKEN={CANARY}", "mgmt:81", CANARY, id="any-order"),
        pytest.param(pairs(token="a=b=="), "mgmt:81", "a=b==", id="equals-in-token"),
        pytest.param(pairs(token="100%"), "mgmt:81", "100%", id="pairs-are-not-decoded"),
        pytest.param(pairs("10.0.0.7:8080"), "10.0.0.7:8080", CANARY, id="ipv4"),
        pytest.param(pairs("[FD00:0::1]:81"), "[fd00::1]:81", CANARY, id="ipv6"),
        pytest.param(pairs("Mgmt_1.Example.org:81"), "mgmt_1.example.org:81", CANARY, id="name-with-underscore"),
        pytest.param(f"storpool://{CANARY}@mgmt:81/ssd", "mgmt:81", CANARY, id="url"),
        pytest.param("storpool://a%2Fb%40c%3a%25@mgmt:81/ssd", "mgmt:81", "a/b@c:%", id="percent-decoded-token"),
        pytest.param("storpool://a+b@mgmt:81/ssd", "mgmt:81", "a+b", id="plus-is-plus"),
        pytest.param(f"storpool://{CANARY}@[::1]:65535/ssd", "[::1]:65535", CANARY, id="url-ipv6"),
    ],
)
def test_both_forms_are_read(text: str, api: str, token: str) -> None:
    assert read(text) == (api, token, "ssd")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "neither SP_API_HTTP="),
        (CANARY, "neither SP_API_HTTP="),
        (f"http://{CANARY}@mgmt:81/ssd", "neither SP_API_HTTP="),
        (f"STORPOOL://{CANARY}@mgmt:81/ssd", "neither SP_API_HTTP="),
        (f" storpool://{CANARY}@mgmt:81/ssd", "neither SP_API_HTTP="),
        (f"sp_auth_token={CANARY}", "neither SP_API_HTTP="),
        (f"SP_AUTH_TOKEN={CANARY};SP_API_HTTP=mgmt:81", "nothing of SP_TEMPLATE"),
        (f"SP_AUTH_TOKEN={CANARY}", "nothing of SP_API_HTTP, SP_TEMPLATE"),
        (pairs(token=""), "nothing of SP_AUTH_TOKEN"),
        (pairs(template=""), "nothing of SP_TEMPLATE"),
        (pairs(""), "nothing of SP_API_HTTP"),
        (f"{pairs()};SP_AUTH_TOKEN=other", "SP_AUTH_TOKEN twice"),
        (f"{pairs()};SP_TEMPLATE=ssd", "SP_TEMPLATE twice"),
        (f"{pairs()};SP_CLUSTER_ID=a.b", "unknown key SP_CLUSTER_ID"),
        (f"SP_AUTH_TOKN={CANARY};SP_API_HTTP=mgmt:81;SP_TEMPLATE=ssd", "unknown key SP_AUTH_TOKN"),
        (f"SP_TEMPLATE=ssd;{CANARY}=1", "unknown key of part 2"),
        (f"SP_{CANARY}=1", "unknown key of part 1"),
        (f"SP_TEMPLATE=ssd;{CANARY}", "part 2 of the url is not KEY=value"),
        (f"{pairs()};", "part 4 of the url is not KEY=value"),
        (f"{pairs()};;", "part 4 of the url is not KEY=value"),
        (pairs().replace(";", "; "), "unknown key of part 2"),
        (pairs().replace(";", "&"), "nothing of SP_AUTH_TOKEN, SP_TEMPLATE"),
        (pairs("mgmt"), "no port"),
        (pairs("mgmt:"), "no port"),
        (pairs("mgmt:0"), "no port"),
        (pairs("mgmt:081"), "no port"),
        (pairs("mgmt:65536"), "no port"),
        (pairs("mgmt:-1"), "no port"),
        (pairs("mgmt:8x"), "no port"),
        (pairs("mgmt:٨١"), "no port"),
        (pairs(":81"), "neither a name"),
        (pairs("mg mt:81"), "neither a name"),
        (pairs("mgmt/x:81"), "neither a name"),
        (pairs("http://mgmt:81"), "neither a name"),
        (pairs(f"{CANARY}@mgmt:81"), "neither a name"),
        (pairs("-mgmt:81"), "neither a name"),
        (pairs("mgmt..org:81"), "neither a name"),
        (pairs("fd00::1:81"), "neither a name"),
        (pairs("[fd00::1%eth0]:81"), "neither a name"),
        (pairs("[fd00::1:81"), "neither a name"),
        (pairs("[mgmt]:81"), "IP address that is none"),
        (pairs("10.0.0.256:81"), "IP address that is none"),
        (pairs("10.0.0:81"), "IP address that is none"),
        (pairs(token=f"{CANARY}\r\nX: 1"), "SP_AUTH_TOKEN"),
        (pairs(token=f"{CANARY} "), "SP_AUTH_TOKEN"),
        (pairs(token=f"{CANARY}ü"), "SP_AUTH_TOKEN"),
        (pairs(token=f"{CANARY}\0"), "SP_AUTH_TOKEN"),
        (pairs(template="ssd\n"), "SP_TEMPLATE"),
        (pairs(template="../ssd"), "SP_TEMPLATE"),
        (pairs(template="x" * 200), "SP_TEMPLATE"),
        ("storpool://", "no token and @"),
        ("storpool://mgmt:81/ssd", "no token and @"),
        (f"storpool://{CANARY}/x@mgmt:81/ssd", "no token and @"),
        ("storpool://@mgmt:81/ssd", "nothing of SP_AUTH_TOKEN"),
        (f"storpool://{CANARY}@mgmt:81", "nothing of SP_TEMPLATE"),
        (f"storpool://{CANARY}@mgmt:81/", "nothing of SP_TEMPLATE"),
        (f"storpool://{CANARY}@/ssd", "nothing of SP_API_HTTP"),
        (f"storpool://{CANARY}@mgmt/ssd", "no port"),
        (f"storpool://{CANARY}@fd00::1:81/ssd", "neither a name"),
        (f"storpool://{CANARY}@mgmt:81/ssd/", "SP_TEMPLATE"),
        (f"storpool://{CANARY}@mgmt:81//ssd", "SP_TEMPLATE"),
        (f"storpool://{CANARY}@mgmt:81/ssd?x=1", "SP_TEMPLATE"),
        (f"storpool://{CANARY}@mgmt:81/ssd#x", "SP_TEMPLATE"),
        (f"storpool://{CANARY}@mgmt:81/s%73d", "SP_TEMPLATE"),
        (f"storpool://user:{CANARY}@mgmt:81/ssd", "percent-encoded"),
        (f"storpool://{CANARY}@x@mgmt:81/ssd", "percent-encoded"),
        (f"storpool://{CANARY}%@mgmt:81/ssd", "percent-encoded"),
        (f"storpool://{CANARY}%4@mgmt:81/ssd", "percent-encoded"),
        (f"storpool://{CANARY}%0d%0aX@mgmt:81/ssd", "SP_AUTH_TOKEN"),
        (f"storpool://{CANARY}%00@mgmt:81/ssd", "SP_AUTH_TOKEN"),
        (f"storpool://{CANARY}%20@mgmt:81/ssd", "SP_AUTH_TOKEN"),
        (f"storpool://{CANARY}%c3%bc@mgmt:81/ssd", "SP_AUTH_TOKEN"),
    ],
)
def test_what_is_wrong_is_named_and_not_shown(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="url") as wrong:
        parse(SecretStr(text))
    said = f"{wrong.value} {wrong.value!r}"
    assert says in said
    assert CANARY not in said
    assert wrong.value.__cause__ is None


def test_the_token_is_not_shown_by_what_was_read() -> None:
    assert CANARY not in repr(parse(SecretStr(pairs())))


@given(st.text(max_size=80))
def test_no_text_is_more_than_read_or_refused(text: str) -> None:
    for written in (text, f"storpool://{text}", f"SP_{text}", pairs(token=text), pairs(api=text)):
        try:
            found = parse(SecretStr(written))
        except ValueError:
            continue
        assert isinstance(found, PoolUrl)
        assert found.token.get_secret_value().isprintable()


@given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40))
def test_a_token_is_the_same_in_both_forms(token: str) -> None:
    written = "".join(f"%{ord(each):02X}" for each in token)
    expected = ("mgmt:81", token, "ssd")
    assert read(f"storpool://{written}@mgmt:81/ssd") == expected
    if ";" not in token:
        assert read(pairs(token=token)) == expected


def test_the_keys_are_those_of_the_document() -> None:
    assert set(KEYS) == {"SP_API_HTTP", "SP_AUTH_TOKEN", "SP_TEMPLATE"}
