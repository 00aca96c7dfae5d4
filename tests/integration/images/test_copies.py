# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is copied is what was there, in every direction and format, thin and flushed."""

import hashlib
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from image_files import (
    Watched,
    cached_bytes,
    contents_of,
    device_with,
    disk_contents,
    forget_cache,
    image,
    mounted,
    qcow2_with,
    shut_down,
    tool,
    write_sparse,
)
from loop_device import MIB, loop_device
from small_disk import small_disk
from storpool_agent.errors import CopyFailed, ImageRefused
from storpool_agent.images.model import Image
from storpool_agent.images.tools import ImageTools
from storpool_commands.images import ImageFormat

TOOLS = ImageTools()
SIZE_BYTES = 21 * MIB + 3 * 512
Open = AbstractContextManager[Image]


@contextmanager
def on_device(contents: bytes, directory: Path) -> Generator[Image]:
    with device_with(contents) as device, image(device.node, device=True) as opened:
        yield opened


def raw_file(contents: bytes, directory: Path) -> Open:
    return image(write_sparse(directory / "source.raw", contents))


def qcow2_file(contents: bytes, directory: Path) -> Open:
    return image(qcow2_with(directory / "source.qcow2", contents), "qcow2")


def compressed_file(contents: bytes, directory: Path) -> Open:
    options = ("-c", "-o", "compression_type=zstd")
    return image(qcow2_with(directory / "source.qcow2", contents, *options), "qcow2")


SOURCES = [
    pytest.param(on_device, id="a device"),
    pytest.param(raw_file, id="a raw file"),
    pytest.param(qcow2_file, id="a qcow2"),
    pytest.param(compressed_file, id="a compressed qcow2"),
]
FILES = [
    pytest.param("raw", False, id="to a raw file"),
    pytest.param("qcow2", False, id="to a qcow2"),
    pytest.param("qcow2", True, id="to a compressed qcow2"),
]
Source = Callable[[bytes, Path], Open]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("zeroed", [False, True], ids=["that may have anything", "that is zeroed"])
def test_a_device_gets_the_contents(source: Source, zeroed: bool, job: Watched, tmp_path: Path) -> None:
    contents = disk_contents(SIZE_BYTES)
    before = bytes(SIZE_BYTES) if zeroed else b"\xaa" * SIZE_BYTES
    with source(contents, tmp_path) as opened, device_with(before) as device:
        with image(device.node, device=True) as target:
            TOOLS.convert(opened, target, job.task, zeroed=zeroed)
        assert Path(device.node).read_bytes() == contents


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("kind", "compress"), FILES)
def test_a_file_gets_the_contents_and_is_thin(
    source: Source, kind: ImageFormat, compress: bool, job: Watched, tmp_path: Path
) -> None:
    contents, copied = disk_contents(SIZE_BYTES), tmp_path / "copied"
    with source(contents, tmp_path) as opened, image(copied, kind) as target:
        TOOLS.convert(opened, target, job.task, compress=compress)
    assert contents_of(copied, kind, len(contents)) == contents
    assert copied.stat().st_blocks * 512 < 3 * MIB  # 1 MiB of it is data
    if kind == "raw":
        assert copied.stat().st_size == SIZE_BYTES
    else:
        assert ("compression type: zstd" in tool("qemu-img", "info", "-f", "qcow2", str(copied))) == compress
        assert "No errors" in tool("qemu-img", "check", "-f", "qcow2", str(copied))


def test_of_a_target_that_is_zeroed_only_data_is_written(job: Watched, tmp_path: Path) -> None:
    """It is not, here, so that what is not written can be told."""
    with raw_file(disk_contents(SIZE_BYTES), tmp_path) as source, device_with(b"\xaa" * SIZE_BYTES) as device:
        with image(device.node, device=True) as target:
            TOOLS.convert(source, target, job.task, zeroed=True)
        with Path(device.node).open("rb") as written:
            written.seek(12 * MIB)
            assert written.read(4 * MIB) == b"\xaa" * 4 * MIB


@pytest.mark.parametrize("zeroed", [False, True])
def test_what_is_beyond_the_source_stays_as_it_is(zeroed: bool, job: Watched, tmp_path: Path) -> None:
    contents = disk_contents(5 * MIB)
    before = bytes(5 * MIB) + b"beyond".ljust(3 * MIB, b"\xaa")
    with qcow2_file(contents, tmp_path) as source, device_with(before) as device:
        with image(device.node, device=True) as target:
            TOOLS.convert(source, target, job.task, zeroed=zeroed)
        assert Path(device.node).read_bytes() == contents + before[5 * MIB :]


@pytest.mark.parametrize("length", [1, 511, 1000, 4 * MIB + 1])
def test_a_raw_file_that_ends_within_a_sector_is_copied_to_its_end(length: int, job: Watched, tmp_path: Path) -> None:
    contents = b"x" * length
    padded = contents.ljust(-(-length // 512) * 512, b"\0")
    with raw_file(contents, tmp_path) as source:
        with device_with(b"\xaa" * (8 * MIB)) as device, image(device.node, device=True) as target:
            TOOLS.convert(source, target, job.task)
            assert Path(device.node).read_bytes()[: len(padded)] == padded
        with image(tmp_path / "copied") as target:
            TOOLS.convert(source, target, job.task)
        assert (tmp_path / "copied").read_bytes() == padded
    assert job.reports[-1] == (len(padded), len(padded))


def test_a_device_that_is_too_small_is_refused_before_anything_is_written(job: Watched, tmp_path: Path) -> None:
    before = b"\xaa" * 4 * MIB
    with raw_file(b"x" * (4 * MIB + 1), tmp_path) as source, device_with(before) as device:
        with image(device.node, device=True) as target:
            with pytest.raises(CopyFailed, match=r"source\.raw has 4194816 bytes, loop\d+ only 4194304"):
                TOOLS.convert(source, target, job.task)
        assert Path(device.node).read_bytes() == before


def test_a_raw_disk_that_begins_as_a_qcow2_is_copied_as_it_is(job: Watched, tmp_path: Path) -> None:
    secret, inner = write_sparse(tmp_path / "secret", b"SECRET" * 1000), tmp_path / "inner"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(inner))
    with image(inner) as source, image(tmp_path / "copied") as target:
        TOOLS.convert(source, target, job.task)
    assert (tmp_path / "copied").read_bytes().rstrip(b"\0") == inner.read_bytes().rstrip(b"\0")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-F", "raw", "-b", "secret"), id="a backing file"),
        pytest.param(("-o", "data_file=secret,data_file_raw=on"), id="a data file"),
    ],
)
def test_a_qcow2_that_refers_to_another_file_is_refused(
    options: tuple[str, ...], job: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sparse(tmp_path / "secret", b"SECRET" * 1000)
    tool("qemu-img", "create", "-q", "-f", "qcow2", *options, str(tmp_path / "image"), "1M")
    with image(tmp_path / "image", "qcow2") as source, image(tmp_path / "copied") as target:
        with pytest.raises(ImageRefused, match="refers to another file"):
            TOOLS.convert(source, target, job.task)
    assert (tmp_path / "copied").read_bytes() == b""


def test_where_direct_io_is_not_possible_the_cache_is_used(job: Watched) -> None:
    contents = disk_contents(SIZE_BYTES)
    with small_disk(64) as scratch, device_with(bytes(SIZE_BYTES)) as device:
        with raw_file(contents, scratch.path) as source, image(device.node, device=True) as target:
            TOOLS.convert(source, target, job.task)
        with image(device.node, device=True) as source, image(scratch.path / "copied", "qcow2") as target:
            TOOLS.convert(source, target, job.task)
        assert contents_of(scratch.path / "copied", "qcow2", SIZE_BYTES) == contents


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_file_outlives_a_file_system_that_fails_right_after_the_copy(kind: ImageFormat, job: Watched) -> None:
    """The shutdown throws away what was not flushed: a file written without a flush, beside it, is empty after it."""
    contents = disk_contents(SIZE_BYTES)
    with loop_device(400 * MIB) as disk, tempfile.TemporaryDirectory(prefix="xfs-") as directory:
        tool("mkfs.xfs", "-q", disk.node)
        copied, unflushed = Path(directory, "copied"), Path(directory, "unflushed")
        with device_with(contents) as device, mounted(disk, Path(directory)):
            with image(device.node, device=True) as source, image(copied, kind) as target:
                TOOLS.convert(source, target, job.task)
            tool("dd", "if=/dev/zero", f"of={unflushed}", "oflag=direct", "bs=1M", "count=1")
            shut_down(Path(directory))
        with mounted(disk, Path(directory)):
            assert not unflushed.exists() or unflushed.stat().st_size == 0
            assert contents_of(copied, kind, SIZE_BYTES) == contents


def test_the_page_cache_is_left_alone(job: Watched, tmp_path: Path) -> None:
    data = hashlib.shake_128(b"").digest(8 * MIB)
    source_file, copied = write_sparse(tmp_path / "source", data), tmp_path / "copied"
    forget_cache(source_file)
    with image(source_file) as source, image(copied) as target:
        TOOLS.convert(source, target, job.task)
        TOOLS.block_hash(target, len(data), job.task)
        TOOLS.checksum(target, "md5", job.task)
    assert cached_bytes(source_file) + cached_bytes(copied) < MIB // 4


def test_a_bandwidth_is_kept_to(job: Watched, tmp_path: Path) -> None:
    """Not less than the data needs at that rate: a bound that no slow machine can break. Zeroes take no time, and the
    first request (2 MiB) is not waited for."""
    data, rate = hashlib.shake_128(b"").digest(12 * MIB), 8 * MIB
    with raw_file(data + bytes(100 * MIB), tmp_path) as source, image(tmp_path / "copied") as target:
        started = monotonic()
        TOOLS.convert(source, target, job.with_bandwidth(rate))
        assert monotonic() - started > 0.7 * len(data) / rate
    assert (tmp_path / "copied").read_bytes()[: len(data)] == data


def test_progress_grows_to_the_whole(job: Watched, tmp_path: Path) -> None:
    data = hashlib.shake_128(b"").digest(32 * MIB)
    with raw_file(data, tmp_path) as source, image(tmp_path / "copied", "qcow2") as target:
        TOOLS.convert(source, target, job.task)
    done = [one for one, _ in job.reports]
    assert done == sorted(done)
    assert len(set(done)) > 5
    assert job.reports[-1] == (len(data), len(data))
    assert {total for _, total in job.reports} == {len(data)}


def test_an_enormous_disk_is_copied_within_the_limits(job: Watched, tmp_path: Path) -> None:
    """8 TiB, as far as the tables go: they are larger than what is cached of them."""
    huge = tmp_path / "huge.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", str(huge), "8T")
    writes = [option for tib in range(8) for option in ("-c", f"write -q -P 7 {tib}T 64k")]
    tool("qemu-io", "-f", "qcow2", *writes, str(huge))
    with image(huge, "qcow2") as source, image(tmp_path / "copied", "qcow2") as target:
        TOOLS.convert(source, target, job.task)
        size_bytes = 8 << 40
        assert TOOLS.block_hash(source, size_bytes, job.task) == TOOLS.block_hash(target, size_bytes, job.task)
