# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The hash of a disk is one number, whatever the disk is kept in."""

import hashlib
from pathlib import Path
from time import monotonic

import pytest

from block_hash_reference import block_hash
from image_files import Watched, device_with, disk_contents, image, qcow2_with, tool, write_sparse
from loop_device import MIB
from small_disk import small_disk
from storpool_agent.errors import CopyFailed, InvalidCommand
from storpool_agent.images.tools import ImageTools

TOOLS = ImageTools()
SIZES = [
    pytest.param(512, id="a sector"),
    pytest.param(4 * MIB, id="a block"),
    pytest.param(8 * MIB + 512, id="blocks and a sector"),
    pytest.param(41 * MIB + 7 * 512, id="blocks and more"),
]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_disk_has_one_hash_in_a_file_on_a_device_and_in_a_qcow2(
    size_bytes: int, job: Watched, tmp_path: Path
) -> None:
    contents = disk_contents(size_bytes)
    expected = block_hash(contents)
    with image(write_sparse(tmp_path / "file", contents)) as opened:
        assert TOOLS.block_hash(opened, size_bytes, job.task) == expected
    with image(qcow2_with(tmp_path / "qcow2", contents), "qcow2") as opened:
        assert TOOLS.block_hash(opened, size_bytes, job.task) == expected
    with image(qcow2_with(tmp_path / "zstd", contents, "-c", "-o", "compression_type=zstd"), "qcow2") as opened:
        assert TOOLS.block_hash(opened, size_bytes, job.task) == expected
    with device_with(contents) as device, image(device.node, device=True) as opened:
        assert TOOLS.block_hash(opened, size_bytes, job.task) == expected
    with small_disk(64) as cached, image(write_sparse(cached.path / "file", contents)) as opened:
        assert TOOLS.block_hash(opened, size_bytes, job.task) == expected
    done = [one for one, _ in job.reports]
    assert done[-1] == size_bytes


@pytest.mark.parametrize("size_bytes", [0, 1, 700, 4 * MIB - 1, 4 * MIB + 700, 9 * MIB + 1000])
def test_the_beginning_of_a_disk_has_a_hash_of_its_own(size_bytes: int, job: Watched, tmp_path: Path) -> None:
    contents = disk_contents(12 * MIB)
    with image(write_sparse(tmp_path / "file", contents)) as opened:
        assert TOOLS.block_hash(opened, size_bytes, job.task) == block_hash(contents[:size_bytes])
    with image(qcow2_with(tmp_path / "qcow2", contents), "qcow2") as opened:
        assert TOOLS.block_hash(opened, size_bytes, job.task) == block_hash(contents[:size_bytes])


def test_a_file_that_ends_within_a_sector_is_a_disk_with_that_sector(job: Watched, tmp_path: Path) -> None:
    contents = b"x" * 1000
    with image(write_sparse(tmp_path / "file", contents)) as opened:
        assert TOOLS.block_hash(opened, 1000, job.task) == block_hash(contents)
        assert TOOLS.block_hash(opened, 1024, job.task) == block_hash(contents + bytes(24))


def test_a_disk_that_ends_too_early_is_not_padded(job: Watched, tmp_path: Path) -> None:
    contents = bytes(MIB)
    with image(write_sparse(tmp_path / "file", contents)) as opened:
        with pytest.raises(CopyFailed, match=r"reading file: .*it ends there, 1048577 bytes were to be read"):
            TOOLS.block_hash(opened, MIB + 1, job.task)
    with image(qcow2_with(tmp_path / "qcow2", contents), "qcow2") as opened:
        with pytest.raises(CopyFailed, match="it ends there"):
            TOOLS.block_hash(opened, MIB + 1, job.task)
    with device_with(contents) as device, image(device.node, device=True) as opened:
        with pytest.raises(CopyFailed, match="it ends there"):
            TOOLS.block_hash(opened, MIB + 1, job.task)


def test_what_is_behind_a_qcow2_is_not_part_of_it(job: Watched, tmp_path: Path) -> None:
    write_sparse(tmp_path / "secret", b"SECRET" * 100_000)
    made = tmp_path / "overlay"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(tmp_path / "secret"), str(made))
    with image(made, "qcow2") as opened:
        assert TOOLS.block_hash(opened, 65536, job.task) == block_hash(bytes(65536))


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("length", [0, 1, 4 * MIB, 13 * MIB + 77])
def test_a_checksum_is_of_the_file_as_it_is(algorithm: str, length: int, job: Watched, tmp_path: Path) -> None:
    contents = disk_contents(length) if length > 40 else b"x" * length
    with image(write_sparse(tmp_path / "file", contents)) as opened:
        expected = f"{algorithm}:{hashlib.new(algorithm, contents).hexdigest()}"
        assert TOOLS.checksum(opened, algorithm, job.task) == expected
    assert job.reports[-1] == (length, length)


def test_only_known_algorithms_are_used(job: Watched, tmp_path: Path) -> None:
    with image(write_sparse(tmp_path / "file", b"")) as opened, pytest.raises(InvalidCommand, match="shake_128"):
        TOOLS.checksum(opened, "shake_128", job.task)


def test_data_is_read_no_faster_than_the_limit(job: Watched, tmp_path: Path) -> None:
    """A bound that no slow machine can break; zeroes take no time."""
    data, rate = hashlib.shake_128(b"").digest(6 * MIB), 4 * MIB
    with image(write_sparse(tmp_path / "file", data + bytes(100 * MIB))) as opened:
        started = monotonic()
        digest = TOOLS.block_hash(opened, 106 * MIB, job.with_bandwidth(rate))
        assert monotonic() - started > 0.7 * len(data) / rate
    assert digest == block_hash(data + bytes(100 * MIB))
