# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""LUKS by QEMU's own tools, on a device: formatted, opened, filled and read back, and by plain qemu-img as well."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretBytes

from block_hash_reference import block_hash
from image_files import Watched, device_with, disk_contents, image, tool, watched
from loop_device import MIB, loop_device
from storpool_agent.encryption_errors import WrongKey
from storpool_agent.errors import CopyFailed
from storpool_agent.images import luks
from storpool_agent.images.model import Image
from storpool_agent.images.tools import ImageTools

TOOLS = ImageTools(iteration_ms=100)
DEVICE_BYTES = 24 * MIB
SIZE_BYTES = 21 * MIB + 3 * 512
PASSPHRASE = SecretBytes("gänzlich geheim, mit Leerzeichen".encode())


@pytest.fixture(scope="module")
def formatted(run_directory: object, services: None) -> Iterator[Image]:
    """A device with a header that PASSPHRASE opens: making one takes seconds."""
    with (
        loop_device(DEVICE_BYTES, direct_io=True) as device,
        image(device.node, device=True) as raw,
        luks.sealed(PASSPHRASE) as key,
        watched() as job,
    ):
        encrypted = replace(raw, luks=key, name=device.node)
        TOOLS.encrypt(encrypted, job.task)
        yield encrypted


def test_what_is_copied_into_it_is_read_back_from_it_and_is_nowhere_as_plain_text(
    formatted: Image, job: Watched, tmp_path: Path
) -> None:
    contents = disk_contents(SIZE_BYTES)
    with device_with(contents) as device, image(device.node, device=True) as source:
        TOOLS.convert(source, formatted, job.with_bandwidth(64 * MIB))
        assert TOOLS.block_hash(formatted, SIZE_BYTES, job.task) == block_hash(contents)
        assert TOOLS.block_hash(source, SIZE_BYTES, job.task) == block_hash(contents)
    stored = Path(formatted.name).read_bytes()
    assert not any(contents[begin : begin + 512] in stored for begin in (0, 9 * MIB, SIZE_BYTES - 512))
    key = tmp_path / "key"
    key.write_bytes(PASSPHRASE.get_secret_value())
    node = f"driver=luks,key-secret=k,file.driver=host_device,file.filename={formatted.name}"
    secret = ("--object", f"secret,id=k,file={key}")
    tool("qemu-img", "convert", *secret, "--image-opts", "-O", "raw", node, str(tmp_path / "plain"))
    plain = (tmp_path / "plain").read_bytes()
    assert (plain[:SIZE_BYTES], len(plain)) == (contents, DEVICE_BYTES - luks.PAYLOAD_OFFSET_BYTES)


def test_the_header_is_where_and_what_it_is_said_to_be(formatted: Image, job: Watched) -> None:
    header = luks.parse(TOOLS.read(formatted, 0, luks.HEADER_BYTES, job.task))
    assert header is not None
    assert (header.payload_offset_bytes, header.cipher) == (luks.PAYLOAD_OFFSET_BYTES, "aes-xts-plain64")
    assert header.uuid in Path(formatted.name).read_bytes()[: luks.HEADER_BYTES].decode("latin-1")


def test_another_passphrase_does_not_open_it(formatted: Image, job: Watched) -> None:
    TOOLS.unlock(formatted, job.task)
    for wrong in (b"x", PASSPHRASE.get_secret_value() + b"\n", PASSPHRASE.get_secret_value()[:-1]):
        with luks.sealed(SecretBytes(wrong)) as key, pytest.raises(WrongKey, match="does not open /dev/loop"):
            TOOLS.unlock(replace(formatted, luks=key), job.task)


def test_it_is_opened_while_somebody_writes_to_it(formatted: Image, job: Watched) -> None:
    """As a running machine does, whose QEMU has locked it."""
    node = f"driver=host_device,filename={formatted.name}"
    with subprocess.Popen(
        ["qemu-io", "--image-opts", node], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write("read 0 512\n")
        writer.stdin.flush()
        assert "read 512/512" in writer.stdout.readline() + writer.stdout.readline()
        TOOLS.unlock(formatted, job.task)
        writer.stdin.close()


def test_a_device_without_room_for_a_header_is_left_alone(job: Watched) -> None:
    with device_with(b"x" * MIB) as device, image(device.node, device=True) as raw, luks.sealed(PASSPHRASE) as key:
        with pytest.raises(CopyFailed, match="too small"):
            TOOLS.encrypt(replace(raw, luks=key), job.task)
        assert Path(device.node).read_bytes() == b"x" * MIB


def test_a_disk_that_does_not_fit_behind_the_header_is_not_begun(formatted: Image, job: Watched) -> None:
    before = Path(formatted.name).read_bytes()
    with loop_device(DEVICE_BYTES - luks.PAYLOAD_OFFSET_BYTES + 512) as device:
        with image(device.node, device=True) as source, pytest.raises(CopyFailed, match="nothing was written"):
            TOOLS.convert(source, formatted, job.task)
    assert Path(formatted.name).read_bytes() == before


def test_what_is_read_is_what_is_on_the_device(job: Watched) -> None:
    contents = os.urandom(2 * MIB)
    with device_with(contents) as device, image(device.node, device=True) as raw:
        assert TOOLS.read(raw, 512, 1000, job.task) == contents[512:1512]
        assert TOOLS.read(raw, 2 * MIB - 100, 4 * MIB, job.task) == contents[-100:]
        assert TOOLS.read(raw, 0, 4 * MIB, job.task) == contents
