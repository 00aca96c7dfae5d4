# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The parser of foreign images takes what is good, and refuses everything else by name."""

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile_images import CLUSTER, IMAGES, LIMIT_BYTES, MIB, SIZE, Hostile, extension, qcow2, with_data
from storpool_agent.images.foreign.file import ForeignFile
from storpool_agent.images.foreign.inspector import inspect
from storpool_agent.images.foreign.reply import Refusal

EIB_8 = (1 << 63) - 1  # the longest file that there can be
COPIED, COMPRESSED = 1 << 63, 1 << 62


@contextmanager
def memory_file(contents: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("image")
    try:
        os.write(descriptor, contents)
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("hostile", IMAGES, ids=lambda image: image.name)
def test_a_hostile_image_is_refused(hostile: Hostile, tmp_path: Path) -> None:
    with hostile.build(tmp_path).open("rb") as image, pytest.raises(Refusal) as refused:
        inspect(image.fileno(), hostile.declared, LIMIT_BYTES)
    assert refused.value.code == hostile.code
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(qcow2(), id="empty"),
        pytest.param(with_data(), id="with data"),
        pytest.param(qcow2(version=2), id="version 2"),
        pytest.param(qcow2(header_length=104), id="header without compression type"),
        pytest.param(qcow2(incompatible=1), id="not closed"),
        pytest.param(
            qcow2(extensions=extension(0x6803F857, b"\0\0dirty bit".ljust(48, b"\0"))), id="names of features"
        ),
        pytest.param(qcow2(l1=(0,) * 32), id="shrunk from a larger one"),
        pytest.param(qcow2(incompatible=1 << 4), id="subclusters"),
        pytest.param(with_data()[: -CLUSTER + 4096], id="last cluster shorter"),
    ],
)
def test_a_good_qcow2_is_taken(image: bytes) -> None:
    with memory_file(image) as descriptor:
        assert inspect(descriptor, "qcow2", SIZE)["virtual_size_bytes"] == SIZE


@pytest.mark.parametrize(
    ("length", "more_sectors"),
    [pytest.param(4 * CLUSTER + CLUSTER + 700, 1, id="to its last byte"), pytest.param(0, 0, id="empty table")],
)
def test_compressed_clusters_may_end_with_the_file(length: int, more_sectors: int) -> None:
    place = 5 * CLUSTER + 100
    entry = COMPRESSED | more_sectors << (62 - 8) | place if length else 0
    image = qcow2(l1=(COPIED | 4 * CLUSTER,), behind=struct.pack(">Q", entry).ljust(CLUSTER, b"\0") + bytes(700))
    with memory_file(image) as descriptor:
        assert inspect(descriptor, "qcow2", SIZE)["virtual_size_bytes"] == SIZE


def test_compressed_clusters_that_end_beyond_the_file_are_refused() -> None:
    entry = COMPRESSED | 100 << (62 - 8) | 5 * CLUSTER
    image = qcow2(l1=(COPIED | 4 * CLUSTER,), behind=struct.pack(">Q", entry).ljust(CLUSTER, b"\0") + bytes(700))
    with memory_file(image) as descriptor, pytest.raises(Refusal, match="cut off"):
        inspect(descriptor, "qcow2", SIZE)


def test_only_the_l1_entries_that_the_disk_has_are_followed() -> None:
    """Those behind are a machine's state: QEMU keeps them, and reads none of them for the disk."""
    with memory_file(qcow2(l1=(0, COPIED | 1 << 50))) as descriptor:
        assert inspect(descriptor, "qcow2", SIZE)["virtual_size_bytes"] == SIZE


@pytest.mark.parametrize("length", [1, 511, 512, 1000, MIB + 1], ids=lambda length: f"{length} bytes")
def test_a_raw_image_is_as_long_as_its_file(length: int) -> None:
    with memory_file(b"\xeb".ljust(length, b"\0")) as descriptor:
        assert inspect(descriptor, "raw", LIMIT_BYTES) == {"virtual_size_bytes": length}


def test_an_iso_image_is_a_raw_disk() -> None:
    with memory_file(bytes(32768) + b"\1CD001\1" + bytes(2041)) as descriptor:
        assert inspect(descriptor, "raw", LIMIT_BYTES) == {"virtual_size_bytes": 32768 + 2048}


def test_a_sparse_file_of_8_eib_is_too_large() -> None:
    with memory_file(b"\xeb") as descriptor:
        os.ftruncate(descriptor, EIB_8)
        with pytest.raises(Refusal, match=str(EIB_8)) as refused:
            inspect(descriptor, "raw", LIMIT_BYTES)
    assert refused.value.code == "image-too-large"


def test_a_qcow2_of_8_eib_is_refused_even_where_it_would_be_allowed() -> None:
    """QEMU's limit of an L1 table: 32 MiB, that is 2 PiB in clusters of 64 KiB."""
    with memory_file(qcow2(size=1 << 62, l1_entries=0xFFFFFFFF)) as descriptor, pytest.raises(Refusal):
        inspect(descriptor, "qcow2", EIB_8)


@pytest.mark.parametrize("declared", ["raw", "qcow2"])
def test_what_is_no_regular_file_is_refused(declared: str) -> None:
    with open("/dev/zero", "rb") as device, pytest.raises(Refusal, match="no regular file"):  # noqa: PTH123
        inspect(device.fileno(), declared, LIMIT_BYTES)


def test_the_message_says_what_to_do_with_a_backup_of_a_guests_disk() -> None:
    with memory_file(qcow2()) as descriptor, pytest.raises(Refusal, match=r"format qcow2 or, .* give its blockHash"):
        inspect(descriptor, "raw", LIMIT_BYTES)


def test_reading_does_not_move_the_descriptor() -> None:
    with tempfile.TemporaryFile() as image:
        image.write(with_data())
        image.seek(17)
        inspect(image.fileno(), "qcow2", LIMIT_BYTES)
        assert os.lseek(image.fileno(), 0, os.SEEK_CUR) == 17


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(4, 300), st.binary(min_size=1, max_size=16)), max_size=8),
    st.integers(0, len(with_data())),
    st.sampled_from(["raw", "qcow2"]),
)
def test_whatever_the_header_says_it_is_taken_or_refused(
    changes: list[tuple[int, bytes]], length: int, declared: str
) -> None:
    image = bytearray(with_data())
    for place, data in changes:
        image[place : place + len(data)] = data
    _taken_or_refused(bytes(image[:length]), declared)


@settings(deadline=None)
@given(
    st.builds(
        qcow2,
        version=st.integers(0, 5),
        size=st.integers(0, (1 << 64) - 1) | st.just(SIZE),
        cluster_bits=st.integers(0, 70) | st.just(16),
        l1_entries=st.integers(0, (1 << 32) - 1) | st.integers(0, 64),
        l1_offset=st.integers(0, 8).map(lambda n: n * CLUSTER) | st.integers(0, (1 << 64) - 1),
        refcounts_offset=st.just(CLUSTER) | st.integers(0, (1 << 64) - 1),
        refcount_clusters=st.just(1) | st.integers(0, (1 << 32) - 1),
        incompatible=st.sampled_from([0, 1, 8, 16, 17, 1 << 40]),
        header_length=st.sampled_from([0, 72, 104, 105, 112, 120, 4096, CLUSTER, 1 << 31]),
        extensions=st.binary(max_size=64),
        l1=st.lists(st.integers(0, (1 << 64) - 1) | st.just(COPIED | 4 * CLUSTER), max_size=8).map(tuple),
        behind=st.binary(max_size=64),
    )
)
def test_any_combination_of_fields_is_taken_or_refused(image: bytes) -> None:
    _taken_or_refused(image, "qcow2")


@settings(deadline=None)
@given(st.binary(max_size=4096), st.sampled_from(["raw", "qcow2"]))
def test_any_bytes_are_taken_or_refused(contents: bytes, declared: str) -> None:
    _taken_or_refused(contents, declared)


def _taken_or_refused(contents: bytes, declared: str) -> None:
    with memory_file(contents) as descriptor:
        assert ForeignFile(descriptor, len(contents)).head(1 << 24) == contents
        try:
            found = inspect(descriptor, declared, LIMIT_BYTES)
        except Refusal:
            return
    assert 0 < int(found["virtual_size_bytes"]) <= LIMIT_BYTES
