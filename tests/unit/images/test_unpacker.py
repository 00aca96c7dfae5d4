# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is unpacked is what was packed, without the room for its zeroes, and never more than is allowed."""

import bz2
import errno
import gzip
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from hostile_images import MIB, PACKED, UNPACKED_LIMIT_BYTES, HostilePacked
from storpool_agent.images.foreign import decompression
from storpool_agent.images.foreign.decompression import OUTPUT_BYTES, PackedFile
from storpool_agent.images.foreign.file import ForeignFile
from storpool_agent.images.foreign.reply import Refusal
from storpool_agent.images.foreign.sparse import PIECE_BYTES, SparseFile
from storpool_agent.images.foreign.unpacker import unpack

PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
NOISE = os.urandom(MIB)
DISK = NOISE[:PIECE_BYTES] + bytes(8 * MIB) + NOISE[PIECE_BYTES:] + bytes(MIB + 700)


@pytest.fixture
def target() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def unpacked(packed: bytes, compression: str, target: int, max_bytes: int = 1 << 30) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(packed)
        file.flush()
        result = unpack(file.fileno(), target, compression, max_bytes, None)
    contents = os.pread(target, 1 << 30, 0)
    assert result == {"bytes": len(contents)}
    return contents


@pytest.mark.parametrize("compression", PACKERS)
def test_what_was_packed_comes_out_and_its_zeroes_take_no_room(compression: str, target: int) -> None:
    assert unpacked(PACKERS[compression](DISK), compression, target) == DISK
    assert os.fstat(target).st_blocks * 512 <= len(NOISE) + 4 * PIECE_BYTES


@pytest.mark.parametrize("compression", PACKERS)
def test_several_streams_are_one(compression: str, target: int) -> None:
    pack = PACKERS[compression]
    assert unpacked(pack(b"one, ") + pack(b"") + pack(b"two") * 3, compression, target) == b"one, twotwotwo"


@pytest.mark.parametrize("compression", ["gzip", "xz"])
def test_zeroes_behind_a_stream_are_padding(compression: str, target: int) -> None:
    pack = PACKERS[compression]
    padding = bytes(decompression.INPUT_BYTES + 4)
    assert unpacked(pack(b"one, ") + padding + pack(b"two") + bytes(8), compression, target) == b"one, two"


@pytest.mark.parametrize("compression", PACKERS)
def test_exactly_as_much_as_is_allowed_is_unpacked(compression: str, target: int) -> None:
    packed = PACKERS[compression](bytes(2 * MIB))
    assert len(unpacked(packed, compression, target, 2 * MIB)) == 2 * MIB
    with pytest.raises(Refusal, match="more than"):
        unpacked(packed, compression, target, 2 * MIB - 1)


@pytest.mark.parametrize("hostile", PACKED, ids=lambda packed: packed.name)
def test_a_hostile_file_is_refused(hostile: HostilePacked, tmp_path: Path, target: int) -> None:
    with hostile.build(tmp_path).open("rb") as packed, pytest.raises(Refusal) as refused:
        unpack(packed.fileno(), target, hostile.compression, UNPACKED_LIMIT_BYTES, None)
    assert refused.value.code == hostile.code
    assert os.fstat(target).st_size <= UNPACKED_LIMIT_BYTES


def test_a_bomb_in_a_bomb_is_unpacked_once(target: int) -> None:
    inner = gzip.compress(bytes(16 * MIB))
    assert unpacked(gzip.compress(inner), "gzip", target) == inner


@pytest.mark.parametrize("compression", PACKERS)
def test_no_step_gives_more_than_its_share(compression: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(PACKERS[compression](bytes(9 * MIB)))
        file.flush()
        sizes = [len(piece) for piece in PackedFile(ForeignFile.of(file.fileno()), compression).pieces()]
    assert sum(sizes) == 9 * MIB
    assert max(sizes) <= OUTPUT_BYTES


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=3), st.integers(1, 200_000)), max_size=6), st.data())
def test_a_sparse_file_reads_as_what_was_appended(runs: list[tuple[bytes, int]], data: st.DataObject) -> None:
    contents = b"".join((piece if data.draw(st.booleans()) else b"\0") * count for piece, count in runs)
    with tempfile.TemporaryFile() as file:
        sparse = SparseFile(file.fileno())
        place = 0
        while place < len(contents):
            count = data.draw(st.integers(1, 500_000))
            sparse.append(contents[place : place + count])
            place += count
        sparse.finish()
        assert file.read() == contents


@settings(deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(sorted(PACKERS)), st.integers(0, 1999), st.integers(0, 255))
def test_a_changed_byte_is_found_or_changes_nothing(contents: bytes, compression: str, place: int, byte: int) -> None:
    """There are fields of a header that nobody reads, such as gzip's time."""
    packed = bytearray(PACKERS[compression](contents))
    packed[place % len(packed)] = byte
    with tempfile.TemporaryFile() as target:
        try:
            assert unpacked(bytes(packed), compression, target.fileno()) == contents
        except Refusal as refusal:
            assert refusal.code == "image-refused"  # noqa: PT017


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["disk full", "quota used up"])
def test_no_room_is_said_to_be_that(number: int, target: int, mocker: MockerFixture) -> None:
    mocker.patch.object(os, "pwrite", side_effect=OSError(number, os.strerror(number)))
    with pytest.raises(Refusal, match="no room after 0 bytes") as refused:
        unpacked(gzip.compress(NOISE), "gzip", target)
    assert refused.value.code == "scratch-full"


def test_a_file_that_cannot_be_read_is_no_damage(target: int, mocker: MockerFixture) -> None:
    mocker.patch.object(os, "pread", side_effect=OSError(errno.EIO, "Input/output error"))
    with pytest.raises(Refusal, match="cannot be read: Input/output error") as refused:
        unpacked(zlib.compress(b""), "bzip2", target)
    assert refused.value.code == "secondary-unavailable"
