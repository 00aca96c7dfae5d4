# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The program that hashes disks, on any sparse file, against the definition."""

import os
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from block_hash_reference import BLOCK_BYTES, block_hash
from storpool_agent.images.worker.blocks import BlockHash, all_zero
from storpool_agent.images.worker.files import RawFile, aligned_buffer

MOST_BYTES = 3 * BLOCK_BYTES + 9000
NEAR_EDGES = st.sampled_from([0, 1, 511, 512, 4095, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES])
PLACES = st.integers(0, MOST_BYTES) | NEAR_EDGES
ISLANDS = st.lists(st.tuples(PLACES, st.binary(min_size=1, max_size=5000)), max_size=4)


@settings(max_examples=40, deadline=None)
@given(length=PLACES, islands=ISLANDS, wanted=PLACES)
def test_any_sparse_file_has_the_hash_of_its_contents(
    length: int, islands: list[tuple[int, bytes]], wanted: int
) -> None:
    with tempfile.TemporaryFile() as file:
        for place, data in islands:
            os.pwrite(file.fileno(), data, place)
        os.truncate(file.fileno(), length)
        contents = os.pread(file.fileno(), length, 0)
        size_bytes = min(wanted, length)
        for direct in (True, False):
            disk = RawFile(file.fileno(), direct=direct)
            made = BlockHash(disk, size_bytes, lambda _: None).digest()
            assert f"sha256-1m:{made}" == block_hash(contents[:size_bytes])
            disk.close()


@given(length=st.integers(0, 4096), place=st.integers(0, 4096))
def test_a_single_bit_is_not_zero(length: int, place: int) -> None:
    buffer = aligned_buffer(4096)
    assert all_zero(buffer, length)
    if place < 4096:
        buffer[place] = 1
    assert all_zero(buffer, length) == (place >= length)
