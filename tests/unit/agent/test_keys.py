# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where passphrases come from, and from which files they do not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from storpool_agent.encryption_errors import KeyNotFound
from storpool_agent.keys import MAX_BYTES, KeyStore
from storpool_commands.encryption import Key

NOBODY = 65534


def write(file: Path, contents: bytes, mode: int = 0o600) -> None:
    file.write_bytes(contents)
    file.chmod(mode)


@pytest.mark.parametrize(
    ("contents", "passphrase"),
    [
        pytest.param(b"geheim", b"geheim", id="as it is"),
        pytest.param(b"geheim\n", b"geheim", id="an editor's newline is none of it"),
        pytest.param(b"geheim\n\n", b"geheim\n", id="a second one is"),
        pytest.param(b" g\xc3\xa4heim ", b" g\xc3\xa4heim ", id="spaces and umlauts are"),
        pytest.param(b"x" * MAX_BYTES, b"x" * MAX_BYTES, id="the longest"),
    ],
)
def test_a_passphrase_is_what_is_in_the_file(tmp_path: Path, contents: bytes, passphrase: bytes) -> None:
    write(tmp_path / "disk-1.key", contents)
    assert KeyStore(tmp_path, None).passphrase(Key(file="disk-1.key")).get_secret_value() == passphrase


def readable(file: Path) -> None:
    write(file, b"geheim", 0o640)


def empty(file: Path) -> None:
    write(file, b"\n")


def too_long(file: Path) -> None:
    write(file, b"x" * (MAX_BYTES + 1))


def no_text(file: Path) -> None:
    write(file, b"\xff\xfe\x00canary")


def with_a_zero(file: Path) -> None:
    write(file, b"canary\0canary")


def a_link(file: Path) -> None:
    write(file.with_name("elsewhere"), b"geheim")
    file.symlink_to("elsewhere")


def a_fifo(file: Path) -> None:
    os.mkfifo(file, 0o600)


def a_directory(file: Path) -> None:
    file.mkdir(0o700)


def somebodys(file: Path) -> None:
    write(file, b"geheim")
    os.chown(file, NOBODY, NOBODY)


def nothing(file: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (nothing, "No such file"),
        (readable, "others may read it"),
        (empty, "is empty"),
        (too_long, "more than 4096 bytes"),
        (no_text, "no text|not text"),
        (with_a_zero, "not text"),
        (a_link, "symbolic link"),
        (a_fifo, "no regular file"),
        (a_directory, "no regular file"),
        (somebodys, "belongs to user"),
    ],
)
def test_a_file_that_may_not_be_used_is_refused_with_the_reason(
    tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    make(tmp_path / "key")
    with pytest.raises(KeyNotFound, match=why) as refused:
        KeyStore(tmp_path, None).passphrase(Key(file="key"))
    assert refused.value.facts == {"key": "key"}
    assert "canary" not in str(refused.value)


def test_a_credential_is_one_that_systemd_has_given(tmp_path: Path) -> None:
    """Since version 254 they have the mode 0440."""
    write(tmp_path / "disk-1", b"geheim", 0o440)
    store = KeyStore(Path("/nonexistent"), tmp_path)
    assert store.passphrase(Key(credential="disk-1")).get_secret_value() == b"geheim"
    with pytest.raises(KeyNotFound, match="no credential disk-1"):
        KeyStore(tmp_path, None).passphrase(Key(credential="disk-1"))


def test_a_passphrase_in_the_command_is_itself(tmp_path: Path) -> None:
    key = Key(secret=SecretStr("gähe\nim\n"))
    assert KeyStore(tmp_path, None).passphrase(key).get_secret_value() == "gähe\nim\n".encode()


def test_what_is_wrong_with_a_passphrase_in_the_command_is_said_without_it(tmp_path: Path) -> None:
    with pytest.raises(KeyNotFound, match="more than 4096 bytes") as refused:
        KeyStore(tmp_path, None).passphrase(Key(secret=SecretStr("canary" * 1000)))
    assert "canary" not in str(refused.value) + str(refused.value.facts)
