# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPool's own configuration files."""

from pathlib import Path

import pytest

from storpool_agent.storpool.address import Address
from storpool_agent.storpool_conf import ConfError, read_conf

MAIN = """
# the cluster
SP_CLUSTER_ID = D.n
SP_AUTH_TOKEN=123 # not a comment
SP_API_HTTP_HOST=10.0.0.1

[kvm1]
SP_OURID=11
[kvm2]
SP_OURID=12
SP_API_HTTP_PORT=8081
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "storpool.conf").write_text(MAIN)
    (tmp_path / "storpool.conf.d").mkdir()
    return tmp_path


def test_a_host_reads_what_is_common_and_its_own_section(etc: Path) -> None:
    conf = read_conf(etc, "kvm2")
    assert (conf.api, conf.our_id, conf.cluster_id) == ("10.0.0.1:8081", 12, "d.n")
    assert conf.token is not None
    assert conf.token.get_secret_value() == "123 # not a comment"
    assert "123" not in repr(conf)


def test_later_files_win_in_the_order_of_their_names(etc: Path) -> None:
    directory = etc / "storpool.conf.d"
    (directory / "20-b.conf").write_text("SP_API_HTTP_HOST=b\n")
    (directory / "10-a.conf").write_text("SP_API_HTTP_HOST=a\n[kvm1]\nSP_OURID=21\n")
    (directory / ".30-hidden.conf").write_text("SP_API_HTTP_HOST=hidden\n")
    (directory / "40.conf~").write_text("SP_API_HTTP_HOST=backup\n")
    conf = read_conf(etc, "kvm1")
    assert (conf.host, conf.our_id) == ("b", 21)
    assert [file.name for file in conf.files] == ["storpool.conf", "10-a.conf", "20-b.conf"]


def test_what_the_files_leave_out_is_storpool_s_default_or_none(etc: Path, tmp_path: Path) -> None:
    assert read_conf(etc, "kvm9").our_id is None
    nothing = read_conf(tmp_path / "nowhere")
    assert (nothing.files, nothing.api, nothing.token, nothing.our_id) == ((), "127.0.0.1:81", None, None)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("SP_OURID=eleven\n", id="no number"),
        pytest.param("SP_OURID\n", id="no value"),
        pytest.param("\udcff", id="no text"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(etc: Path, text: str) -> None:
    file = etc / "storpool.conf.d" / "x.conf"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfError, match=r"storpool\.conf"):
        read_conf(etc, "kvm1")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", Address("10.0.0.1", 81)),
        ("sp.example:8081", Address("sp.example", 8081)),
        ("http://sp.example:81/", Address("sp.example", 81)),
        ("https://sp.example", Address("sp.example", 443, tls=True)),
        ("[fd00::1]:81", Address("fd00::1", 81)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", "ftp://x", "user@x:81", "x:port", "http://x/ctrl", "x:81?y", "x:99999"])
def test_what_is_no_address_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort") as caught:
        Address.parse(text)
    assert not text or "user" not in str(caught.value)
