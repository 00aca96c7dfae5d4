# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Images and packed files that must not get through, each with what it is to be refused as.

They are made by hand, byte by byte, for qemu-img makes few of them. What they would have the host read is the file
`secret` beside them.
"""

import gzip
import json
import struct
from bz2 import compress as bzip2
from collections.abc import Callable
from dataclasses import dataclass
from lzma import FILTER_LZMA2
from lzma import compress as xz
from pathlib import Path
from zlib import crc32

from storpool_commands.errors import ErrorCode
from storpool_commands.images import Compression, ImageFormat

MIB = 1 << 20
LIMIT_BYTES = 1 << 40
"""The largest disk that may be in them; with a larger limit those that are too large are not."""
UNPACKED_LIMIT_BYTES = 8 * MIB
SECRET = b"what the host alone may read".ljust(4096, b".")
CLUSTER = 1 << 16
SIZE = 64 * MIB
DATA_FILE_BIT, CORRUPT_BIT = 1 << 2, 1 << 1
BACKING_FORMAT, DATA_FILE, LUKS_HEADER = 0xE2792ACA, 0x44415441, 0x0537BE77

Build = Callable[[Path], bytes]
"""The contents, given the secret's path."""


@dataclass(frozen=True)
class Hostile:
    name: str
    declared: ImageFormat
    code: ErrorCode
    contents: Build
    length: int | None = None
    """The file is made so long, with a hole at its end."""

    def build(self, directory: Path) -> Path:
        """The image's path; `secret` is made beside it."""
        path = directory / "hostile.img"
        path.write_bytes(self.contents(write_secret(directory)))
        if self.length is not None:
            with path.open("r+b") as file:
                file.truncate(self.length)
        return path


@dataclass(frozen=True)
class HostilePacked:
    name: str
    compression: Compression
    code: ErrorCode
    contents: Callable[[], bytes]

    def build(self, directory: Path) -> Path:
        path = directory / f"hostile.{self.compression}"
        path.write_bytes(self.contents())
        return path


def write_secret(directory: Path) -> Path:
    path = directory / "secret"
    path.write_bytes(SECRET)
    return path


def extension(kind: int, data: bytes) -> bytes:
    """Of a qcow2 header."""
    return struct.pack(">II", kind, len(data)) + data.ljust((len(data) + 7) // 8 * 8, b"\0")


def qcow2(
    *,
    version: int = 3,
    size: int = SIZE,
    cluster_bits: int = 16,
    backing: bytes = b"",
    encryption: int = 0,
    l1: tuple[int, ...] = (0,),
    l1_entries: int | None = None,
    l1_offset: int = 3 * CLUSTER,
    refcounts_offset: int = CLUSTER,
    refcount_clusters: int = 1,
    snapshots: int = 0,
    incompatible: int = 0,
    autoclear: int = 0,
    refcount_order: int = 4,
    header_length: int = 112,
    more_fields: bytes = b"",
    extensions: bytes = b"",
    behind: bytes = b"",
) -> bytes:
    """An empty image, good as long as nothing is said: header, two clusters of reference counts, L1 table, `behind`."""
    backing_offset = 1024 if backing else 0
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        backing_offset,
        len(backing),
        cluster_bits,
        size,
        encryption,
        len(l1) if l1_entries is None else l1_entries,
        l1_offset,
        refcounts_offset,
        refcount_clusters,
        snapshots,
        0,
    )
    if version >= 3:
        header += struct.pack(">QQQII", incompatible, 0, autoclear, refcount_order, header_length) + bytes(8)
        header += more_fields
    header = (header + extensions).ljust(1024, b"\0") + backing
    table = struct.pack(f">{len(l1)}Q", *l1)
    used = 4 + (len(behind) + CLUSTER - 1) // CLUSTER
    counts = struct.pack(f">{used}H", *[1] * used)
    clusters = (header, struct.pack(">Q", 2 * CLUSTER), counts, table)
    return b"".join(cluster.ljust(CLUSTER, b"\0") for cluster in clusters) + behind


def with_data(guest_clusters: int = 3, place: int = 5 * CLUSTER) -> bytes:
    """An image with an L2 table and clusters of data, from `place` on."""
    copied = 1 << 63
    l2 = struct.pack(f">{guest_clusters}Q", *[copied | place + n * CLUSTER for n in range(guest_clusters)])
    data = b"".join(bytes([n + 1]) * CLUSTER for n in range(guest_clusters))
    return qcow2(l1=(copied | 4 * CLUSTER,), behind=l2.ljust(CLUSTER, b"\0") + data)


def _path(secret: Path) -> bytes:
    return str(secret).encode()


def _json(secret: Path) -> bytes:
    return b"json:" + json.dumps({"driver": "raw", "file": {"driver": "file", "filename": str(secret)}}).encode()


def _vmdk_text(secret: Path) -> bytes:
    return (
        '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW 8 FLAT "{secret}" 0\nddb.virtualHWVersion = "4"\n'
    ).encode()


def _vmdk_text_without_its_first_line(secret: Path) -> bytes:
    return b"# a comment\n\n" + _vmdk_text(secret).partition(b"\n")[2]


def _vmdk_sparse(_: Path) -> bytes:
    return struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, 131072, 128, 1, 20, 512, 21, 26, 128).ljust(65536, b"\0")


def _vdi(_: Path) -> bytes:
    return (b"<<< QEMU VM Virtual Disk Image >>>\n".ljust(0x40, b"\0") + struct.pack("<I", 0xBEDA107F)).ljust(
        4096, b"\0"
    )


def _starting(beginning: bytes) -> Build:
    return lambda _: beginning.ljust(MIB, b"\0")


def _fixed(contents: bytes) -> Build:
    return lambda _: contents


_REFUSED, _MISMATCH, _LARGE = ErrorCode.IMAGE_REFUSED, ErrorCode.IMAGE_FORMAT_MISMATCH, ErrorCode.IMAGE_TOO_LARGE


def _qcow2s() -> list[Hostile]:
    """Said to be qcow2, and it is."""
    builds: dict[str, Build] = {
        "a backing file": lambda secret: qcow2(backing=_path(secret)),
        "a backing file and its format": lambda secret: qcow2(
            backing=_path(secret), extensions=extension(BACKING_FORMAT, b"raw")
        ),
        "a backing file of version 2": lambda secret: qcow2(version=2, backing=_path(secret)),
        "a backing file in JSON": lambda secret: qcow2(backing=_json(secret)),
        "a format of a backing file that is not there": lambda _: qcow2(extensions=extension(BACKING_FORMAT, b"raw")),
        "a data file": lambda secret: qcow2(
            incompatible=DATA_FILE_BIT, extensions=extension(DATA_FILE, _path(secret)), l1=(0,)
        ),
        "a data file that is raw": lambda secret: qcow2(
            incompatible=DATA_FILE_BIT, autoclear=2, extensions=extension(DATA_FILE, _path(secret))
        ),
        "a data file in JSON": lambda secret: qcow2(
            incompatible=DATA_FILE_BIT, extensions=extension(DATA_FILE, _json(secret))
        ),
        "a data file without the feature": lambda secret: qcow2(extensions=extension(DATA_FILE, _path(secret))),
        "a data file without a name": lambda _: qcow2(incompatible=DATA_FILE_BIT),
        "an unknown feature": lambda _: qcow2(incompatible=1 << 5),
        "a feature of the highest bit": lambda _: qcow2(incompatible=1 << 63),
        "a mark of corruption": lambda _: qcow2(incompatible=CORRUPT_BIT),
        "an unknown extension": lambda _: qcow2(extensions=extension(0x12345678, b"data")),
        "an extension without end": lambda _: qcow2(extensions=struct.pack(">II", 0x6803F857, 0xFFFFFFF0)),
        "encryption (AES)": lambda _: qcow2(encryption=1),
        "encryption (LUKS)": lambda _: qcow2(encryption=2, extensions=extension(LUKS_HEADER, bytes(16))),
        "a LUKS header": lambda _: qcow2(extensions=extension(LUKS_HEADER, bytes(16))),
        "internal snapshots": lambda _: qcow2(snapshots=1),
        "an unknown version": lambda _: qcow2(version=4),
        "clusters that are too small": lambda _: qcow2(cluster_bits=8),
        "clusters that are too large": lambda _: qcow2(cluster_bits=63),
        "a header that is too short": lambda _: qcow2(header_length=8),
        "a header that is longer than a cluster": lambda _: qcow2(header_length=CLUSTER + 8),
        "a header with unknown fields": lambda _: qcow2(header_length=120, more_fields=b"\1".ljust(8, b"\0")),
        "an unknown compression": lambda _: qcow2()[:104] + b"\7" + qcow2()[105:],
        "reference counts that are too wide": lambda _: qcow2(refcount_order=7),
        "an L1 table out of proportion": lambda _: qcow2(l1_entries=0xFFFFFFFF),
        "an L1 table that is too small": lambda _: qcow2(size=1 << 35),
        "an L1 table beyond the end": lambda _: qcow2(l1_offset=1 << 40),
        "an L1 table in the header": lambda _: qcow2(l1_offset=0),
        "an L1 table between clusters": lambda _: qcow2(l1_offset=3 * CLUSTER + 512),
        "reference counts beyond the end": lambda _: qcow2(refcounts_offset=1 << 50),
        "reference counts out of proportion": lambda _: qcow2(refcount_clusters=1 << 31),
        "no reference counts": lambda _: qcow2(refcount_clusters=0),
        "an L2 table beyond the end": lambda _: qcow2(l1=(1 << 63 | 1 << 40,)),
        "an L2 table between clusters": lambda _: qcow2(l1=(1 << 63 | 512,)),
        "data beyond the end": lambda _: with_data(place=1 << 41),
        "a size of nothing": lambda _: qcow2(size=0, l1=()),
        "a size of half a sector": lambda _: qcow2(size=SIZE + 256),
        "a cut-off header": lambda _: qcow2()[:50],
        "a cut-off header of version 3": lambda _: qcow2()[:90],
        "cut-off tables": lambda _: qcow2()[: 3 * CLUSTER],
        "cut-off data": lambda _: with_data()[: -2 * CLUSTER],
    }
    return [Hostile(f"qcow2 with {name}", "qcow2", _REFUSED, build) for name, build in builds.items()]


IMAGES: tuple[Hostile, ...] = (
    *_qcow2s(),
    Hostile("qcow2 that is too large", "qcow2", _LARGE, _fixed(qcow2(size=LIMIT_BYTES + 512))),
    Hostile("qcow2 of nearly 16 EiB", "qcow2", _LARGE, _fixed(qcow2(size=(1 << 64) - 512))),
    Hostile("raw that is too large", "raw", _LARGE, _fixed(b"\0"), length=LIMIT_BYTES + 512),
    Hostile("an empty raw file", "raw", _REFUSED, _fixed(b"")),
    Hostile("an empty qcow2 file", "qcow2", _REFUSED, _fixed(b"")),
    Hostile("raw said to be qcow2", "qcow2", _MISMATCH, _starting(b"\xeb\x63\x90")),
    Hostile("qcow (version 1) said to be qcow2", "qcow2", _MISMATCH, _fixed(qcow2(version=1))),
    Hostile("VMDK with a flat extent, said to be qcow2", "qcow2", _MISMATCH, _vmdk_text),
    Hostile("qcow2 said to be raw", "raw", _MISMATCH, _fixed(qcow2())),
    Hostile("qcow2 with a backing file, said to be raw", "raw", _MISMATCH, lambda secret: qcow2(backing=_path(secret))),
    Hostile("raw that a guest has given a qcow2 header", "raw", _MISMATCH, _starting(b"QFI\xfb")),
    Hostile("VMDK with a flat extent", "raw", _MISMATCH, _vmdk_text),
    Hostile("VMDK text without its first line", "raw", _MISMATCH, _vmdk_text_without_its_first_line),
    Hostile("VMDK that is sparse", "raw", _MISMATCH, _vmdk_sparse),
    Hostile("VMDK of ESX", "raw", _MISMATCH, _starting(b"COWD\1\0\0\0")),
    Hostile("VDI", "raw", _MISMATCH, _vdi),
    Hostile("VHD that is dynamic", "raw", _MISMATCH, _starting(b"conectix")),
    Hostile("VHD that is fixed", "raw", _MISMATCH, _fixed(bytes(MIB) + b"conectix".ljust(512, b"\0"))),
    Hostile("VHDX", "raw", _MISMATCH, _starting(b"vhdxfile")),
    Hostile("QED", "raw", _MISMATCH, _starting(b"QED\0")),
    Hostile("LUKS", "raw", _MISMATCH, _starting(b"LUKS\xba\xbe\0\1")),
    Hostile("Parallels", "raw", _MISMATCH, _starting(b"WithouFreSpacExt")),
    Hostile("a packed file", "raw", _MISMATCH, _fixed(gzip.compress(bytes(MIB)))),
    Hostile("a page of HTML", "raw", _MISMATCH, _fixed(b"\n<!DOCTYPE html><html><body>Log in</body></html>")),
)


def _gzip_bomb() -> bytes:
    """10 GiB of zeroes in 10 MiB."""
    return gzip.compress(bytes(16 * MIB)) * 640


def _spoilt(packed: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 0x10]) + packed[middle + 1 :]


_NOISE = b"".join(struct.pack(">Q", n * n * 2654435761 % (1 << 64)) for n in range(20_000))


def _hungry_xz() -> bytes:
    """A dictionary of 1.5 GiB, which only the header says: the CRCs are right."""
    packed = xz(_NOISE, filters=[{"id": FILTER_LZMA2, "dict_size": 1 << 20}])
    place = packed.index(b"\x21\x01", 12) + 2  # LZMA2's id, and the length of its properties
    length = (packed[12] + 1) * 4
    header = bytearray(packed[12 : 12 + length - 4])
    header[place - 12] = 37  # 2^30 + 2^29 bytes
    return packed[:12] + bytes(header) + struct.pack("<I", crc32(bytes(header))) + packed[12 + length :]


PACKED: tuple[HostilePacked, ...] = (
    HostilePacked("a gzip of 10 GiB", "gzip", _LARGE, _gzip_bomb),
    HostilePacked("a bzip2 of 6 GiB", "bzip2", _LARGE, lambda: bzip2(bytes(16 * MIB)) * 400),
    HostilePacked("an xz of 6 GiB", "xz", _LARGE, lambda: xz(bytes(16 * MIB), preset=0) * 400),
    HostilePacked("a gzip that is cut off", "gzip", _REFUSED, lambda: gzip.compress(_NOISE)[:-9]),
    HostilePacked("a gzip without its last byte", "gzip", _REFUSED, lambda: gzip.compress(_NOISE)[:-1]),
    HostilePacked("a bzip2 that is cut off", "bzip2", _REFUSED, lambda: bzip2(_NOISE)[:-1]),
    HostilePacked("an xz that is cut off", "xz", _REFUSED, lambda: xz(_NOISE)[:-1]),
    HostilePacked(
        "a gzip whose second member is cut off", "gzip", _REFUSED, lambda: gzip.compress(_NOISE) * 2 + b"\x1f"
    ),
    HostilePacked("a gzip with garbage behind it", "gzip", _REFUSED, lambda: gzip.compress(_NOISE) + b"garbage"),
    HostilePacked("a bzip2 with garbage behind it", "bzip2", _REFUSED, lambda: bzip2(_NOISE) + b"garbage"),
    HostilePacked("an xz with garbage behind it", "xz", _REFUSED, lambda: xz(_NOISE) + b"garbage"),
    HostilePacked("a gzip with a wrong bit", "gzip", _REFUSED, lambda: _spoilt(gzip.compress(_NOISE))),
    HostilePacked("a bzip2 with a wrong bit", "bzip2", _REFUSED, lambda: _spoilt(bzip2(_NOISE))),
    HostilePacked("an xz with a wrong bit", "xz", _REFUSED, lambda: _spoilt(xz(_NOISE))),
    HostilePacked("an xz said to be a gzip", "gzip", _REFUSED, lambda: xz(_NOISE)),
    HostilePacked("an empty file", "gzip", _REFUSED, lambda: b""),
    HostilePacked("an xz that needs more memory than it may", "xz", _REFUSED, _hungry_xz),
)
