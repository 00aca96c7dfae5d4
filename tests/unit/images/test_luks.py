# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A LUKS header, as far as the agent reads one; and how a passphrase is handed on."""

import fcntl
import os
from pathlib import Path

import pytest
from pydantic import SecretBytes

from fake_images import header
from storpool_agent.errors import CopyFailed
from storpool_agent.images import luks, nodes
from storpool_agent.images.model import Image

HEADER = header(b"any")


def test_a_header_says_where_the_data_begins() -> None:
    found = luks.parse(HEADER[: luks.HEADER_BYTES])
    assert found == luks.Luks(2_068_480, "cb6185bf-3b51-4be4-aefa-d90fecc7c5d2", "aes-xts-plain64")


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(592), id="zeroes"),
        pytest.param(b"LUKS\xba\xbe\0\2" + HEADER[8:], id="version 2"),
        pytest.param(b"luks\xba\xbe\0\1" + HEADER[8:], id="another magic"),
    ],
)
def test_what_is_no_header_of_ours_is_none(beginning: bytes) -> None:
    assert luks.parse(beginning) is None


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(HEADER[:500], id="cut off"),
        pytest.param(HEADER[:104] + bytes(4) + HEADER[108:], id="data that begins at 0"),
    ],
)
def test_a_damaged_header_is_an_error(beginning: bytes) -> None:
    with pytest.raises(CopyFailed, match="damaged"):
        luks.parse(beginning)


def test_a_passphrase_is_handed_on_in_memory_that_nobody_can_change() -> None:
    with luks.sealed(SecretBytes(b"geheim")) as descriptor:
        assert str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("/memfd:")
        assert not os.get_inheritable(descriptor)
        assert os.pread(descriptor, 100, 0) == b"geheim"
        for attempt in (lambda: os.pwrite(descriptor, b"x", 0), lambda: os.ftruncate(descriptor, 0)):
            with pytest.raises(PermissionError):
                attempt()
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_an_encrypted_image_is_named_with_its_key_and_the_key_by_its_descriptor() -> None:
    image = Image(7, "raw", "disk", device=True, luks=9)
    assert nodes.target(image, limited=False) == (
        "driver=luks,key-secret=key,file.driver=host_device,file.filename=/proc/self/fd/7"
    )
    assert '"driver":"luks"' in nodes.source(image)
    assert nodes.objects(image) == ("--object", "secret,id=key,format=raw,file=/proc/self/fd/9")
    assert nodes.files(image) == {7: "disk", 9: "the passphrase"}
    assert nodes.objects(Image(7, "raw", "disk")) == ()
