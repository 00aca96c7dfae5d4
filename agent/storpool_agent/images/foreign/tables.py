# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the tables of a qcow2 image point to: into the file, all of them.

QEMU reads zeroes from beyond a file's end and calls that a success (qemu-img convert 7.2: exit status 0). An image that
was cut off on its way would become a disk with holes, so it is refused here.
"""

import sys
from array import array

from storpool_agent.images.foreign.file import ForeignFile
from storpool_agent.images.foreign.qcow2 import SECTOR_BYTES, Header
from storpool_agent.images.foreign.reply import Progress, Refusal

OFFSET = 0x00FF_FFFF_FFFF_FE00
"""The bits of an entry, of L1 or of L2, that are a place in the file."""
RESERVED = 1 << 56
COMPRESSED = 1 << 62
COPIED = 1 << 63
"""Nobody else refers to the cluster; set in every entry of an image without snapshots."""


def check_tables(file: ForeignFile, header: Header, progress: Progress) -> None:
    """Raises Refusal. A cluster has to begin in the file: the last one may be shorter than a cluster."""
    cluster = header.cluster_bytes
    for number, entry in enumerate(_table(file, header.l1_offset, header.l1_entries * 8, "the L1 table")):
        place = entry & OFFSET
        if place == 0:
            continue
        if place % cluster:
            raise Refusal("image-refused", f"L2 table {number} is not at a cluster")
        table = _table(file, place, cluster, f"L2 table {number}")
        end = _end(table[:: header.l2_entry_bytes // 8], header)
        if end > file.length:
            raise Refusal(
                "image-refused",
                f"the file is cut off: it has {file.length} bytes, and the disk has data at {end - 1}",
                file_size_bytes=file.length,
            )
        progress.at(number)


def _table(file: ForeignFile, offset: int, count: int, what: str) -> "array[int]":
    table = array("Q", file.read(offset, count, what))
    if sys.byteorder == "little":
        table.byteswap()
    return table


def _end(entries: "array[int]", header: Header) -> int:
    """No data of these clusters begins at or after it: past the first byte of the last one, or of its last sector."""
    used = list(filter(None, entries))
    if not used:
        return 0
    if min(used) >= COPIED and max(used) < COPIED | RESERVED:  # as in most images, and three times as fast
        return (max(used) & OFFSET) + 1
    return max(_compressed_end(one, header) if one & COMPRESSED else _standard_end(one) for one in used)


def _standard_end(entry: int) -> int:
    """A cluster that reads as zeroes may have no place."""
    return (entry & OFFSET) + 1 if entry & OFFSET else 0


def _compressed_end(entry: int, header: Header) -> int:
    """The place is said to the byte, the length in sectors that begin there, beside the one that it is in."""
    bits = 62 - (header.cluster_bytes.bit_length() - 1 - 8)
    place, more = entry & ((1 << bits) - 1), (entry & (COMPRESSED - 1)) >> bits
    return place + 1 if more == 0 else place // SECTOR_BYTES * SECTOR_BYTES + more * SECTOR_BYTES + 1
