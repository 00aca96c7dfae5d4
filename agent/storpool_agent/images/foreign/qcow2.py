# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The header of a qcow2 image, read as its specification says (QEMU, docs/interop/qcow2.txt), and refused where it asks
for more than the image itself.

Why not leave that to qemu-img: it opens what a header names before anybody can say no (CVE-2015-5163 backing file,
CVE-2024-32498 data file, CVE-2024-4467 already by `info`).
"""

import struct
from dataclasses import dataclass

from storpool_agent.images.foreign.file import ForeignFile
from storpool_agent.images.foreign.reply import Refusal

MAGIC = b"QFI\xfb"
MAX_L1_BYTES = 32 << 20  # QEMU's QCOW_MAX_L1_SIZE
MAX_REFCOUNT_TABLE_BYTES = 8 << 20  # QEMU's QCOW_MAX_REFTABLE_SIZE
SECTOR_BYTES = 512

DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
RAW_DATA_FILE = 1 << 1  # of the autoclear bits

EXTENSION_END = 0
EXTENSION_FEATURE_NAMES = 0x6803F857
EXTENSION_BITMAPS = 0x23852875
EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_DATA_FILE = 0x44415441
EXTENSION_ENCRYPTION = 0x0537BE77
_REFUSED_EXTENSIONS = {
    EXTENSION_BACKING_FORMAT: "it names the format of a backing file",
    EXTENSION_DATA_FILE: "it names a data file",
    EXTENSION_ENCRYPTION: "it is encrypted",
}
_HARMLESS_EXTENSIONS = {EXTENSION_FEATURE_NAMES, EXTENSION_BITMAPS}

_VERSION_2 = struct.Struct(">4sIQIIQIIQQIIQ")
_VERSION_3 = struct.Struct(">QQQII")
_V3_LENGTH = _VERSION_2.size + _VERSION_3.size
_EXTENSION = struct.Struct(">II")


@dataclass(frozen=True)
class Header:
    virtual_size_bytes: int
    cluster_bytes: int
    l1_offset: int
    l1_entries: int
    """As many as the virtual size needs. More may be there, for a machine's state or from before it was shrunk."""
    version: int
    dirty: bool
    """It was not closed. Only its reference counts may be wrong, and nothing that is read needs them."""
    extended_l2: bool
    compression: str

    @property
    def l2_entry_bytes(self) -> int:
        return 16 if self.extended_l2 else 8


@dataclass(frozen=True)
class _Features:
    incompatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    header_length: int = _VERSION_2.size
    compression: int = 0


def read_header(file: ForeignFile, max_size_bytes: int) -> Header:
    """Of a file that begins with the magic. Raises Refusal."""
    start = file.read(0, _VERSION_2.size, "the header")
    (_, version, backing_offset, backing_bytes, cluster_bits, size, encryption, l1_entries, l1_offset) = (
        _VERSION_2.unpack(start)[:9]
    )
    refcounts_offset, refcount_clusters, snapshots, _ = _VERSION_2.unpack(start)[9:]
    _must(version in {2, 3}, f"it is a qcow2 of version {version}, which is not known")
    _must(backing_offset == 0 and backing_bytes == 0, "it has a backing file")
    _must(9 <= cluster_bits <= 21, f"clusters of 2^{cluster_bits} bytes are not possible")
    cluster = 1 << cluster_bits
    features = _features(file, cluster) if version == 3 else _Features()
    _check_features(features, cluster_bits)
    _must(encryption == 0, "it is encrypted")
    _must(snapshots == 0, f"it has {snapshots} internal snapshots")
    _check_extensions(file, features.header_length, cluster)
    _check_size(size, max_size_bytes)
    header = Header(
        virtual_size_bytes=size,
        cluster_bytes=cluster,
        l1_offset=l1_offset,
        l1_entries=_l1_entries(size, cluster, extended=bool(features.incompatible & EXTENDED_L2)),
        version=version,
        dirty=bool(features.incompatible & DIRTY),
        extended_l2=bool(features.incompatible & EXTENDED_L2),
        compression="zstd" if features.compression else "zlib",
    )
    _check_l1(file, header, l1_entries)
    _check_refcounts(file, refcounts_offset, refcount_clusters, cluster)
    return header


def _features(file: ForeignFile, cluster: int) -> _Features:
    data = file.read(_VERSION_2.size, _VERSION_3.size, "the header")
    incompatible, _, autoclear, refcount_order, length = _VERSION_3.unpack(data)
    _must(_V3_LENGTH <= length <= cluster and length % 8 == 0, f"a header of {length} bytes is not possible")
    rest = file.read(_V3_LENGTH, length - _V3_LENGTH, "the header")
    _must(not any(rest[1:]), "its header has fields that are not known")
    return _Features(incompatible, autoclear, refcount_order, length, rest[0] if rest else 0)


def _check_features(features: _Features, cluster_bits: int) -> None:
    bits = features.incompatible
    _must(not bits & DATA_FILE and not features.autoclear & RAW_DATA_FILE, "its data is in another file")
    _must(not bits & CORRUPT, "it is marked as corrupt: have it repaired (qemu-img check) where it was made")
    unknown = bits & ~(DIRTY | COMPRESSION | EXTENDED_L2)
    _must(not unknown, f"it needs features that are not known (bits {unknown:#x})")
    _must(features.refcount_order <= 6, f"reference counts of 2^{features.refcount_order} bits are not possible")
    _must(features.compression <= 1, f"its compression ({features.compression}) is not known")
    _must(bool(bits & COMPRESSION) == (features.compression != 0), "it contradicts itself about its compression")
    _must(not bits & EXTENDED_L2 or cluster_bits >= 14, "its clusters are too small to have subclusters")


def _check_extensions(file: ForeignFile, offset: int, cluster: int) -> None:
    """They end with one of type 0, or with the cluster; a file that is shorter than that has no tables."""
    while offset + _EXTENSION.size <= cluster:
        kind, length = _EXTENSION.unpack(file.read(offset, _EXTENSION.size, "the header"))
        if kind == EXTENSION_END:
            return
        _must(kind not in _REFUSED_EXTENSIONS, _REFUSED_EXTENSIONS.get(kind, ""))
        _must(kind in _HARMLESS_EXTENSIONS, f"its header has an extension that is not known ({kind:#010x})")
        offset += _EXTENSION.size + (length + 7) // 8 * 8
        _must(offset <= cluster, "an extension of its header is longer than the header can be")


def _check_size(size: int, max_size_bytes: int) -> None:
    if size > max_size_bytes:
        raise Refusal(
            "image-too-large",
            f"its disk has {size} bytes, and no more than {max_size_bytes} are allowed",
            size_bytes=size,
            max_size_bytes=max_size_bytes,
        )
    _must(size > 0, "its disk has no bytes")
    _must(size % SECTOR_BYTES == 0, f"its disk has {size} bytes, which is no multiple of {SECTOR_BYTES}")


def _l1_entries(size: int, cluster: int, *, extended: bool) -> int:
    per_entry = cluster // (16 if extended else 8) * cluster
    return (size + per_entry - 1) // per_entry


def _check_l1(file: ForeignFile, header: Header, entries: int) -> None:
    """More entries than needed are no reason to refuse: QEMU keeps them when an image is shrunk."""
    _must(entries >= header.l1_entries, f"its L1 table has {entries} entries, and the disk needs {header.l1_entries}")
    _must(entries * 8 <= MAX_L1_BYTES, f"its L1 table has {entries} entries, which is out of all proportion")
    _must(header.l1_offset % header.cluster_bytes == 0 and header.l1_offset > 0, "its L1 table is not at a cluster")
    _must(header.l1_offset + entries * 8 <= file.length, "the file is cut off: the L1 table is not in it")


def _check_refcounts(file: ForeignFile, offset: int, clusters: int, cluster: int) -> None:
    _must(clusters > 0, "it has no reference counts")
    _must(
        clusters * cluster <= MAX_REFCOUNT_TABLE_BYTES, f"{clusters} clusters of reference counts are out of proportion"
    )
    _must(offset % cluster == 0 and offset > 0, "its reference counts are not at a cluster")
    _must(offset + clusters * cluster <= file.length, "the file is cut off: the reference counts are not in it")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Refusal("image-refused", otherwise)
