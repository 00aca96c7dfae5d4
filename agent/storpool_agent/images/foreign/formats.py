# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a file looks like: every format that QEMU would take it for by its contents, and what else is no disk.

Signatures are those of QEMU's probe functions (block/*.c, bdrv_probe), and of the packers' own documents.
"""

import re

from storpool_agent.images.foreign.file import ForeignFile

HEAD_BYTES = 2048
"""QEMU looks at 512 (BLOCK_PROBE_BUF_SIZE)."""
FOOTER_BYTES = 512

_SIGNATURES = (
    (0, b"QFI\xfb\x00\x00\x00\x01", "qcow (version 1)"),
    (0, b"QFI\xfb", "qcow2"),
    (0, b"QED\x00", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"conectix", "vhd"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"Bochs Virtual HD Image", "bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "cloop"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"PK\x03\x04", "zip"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (257, b"ustar", "tar"),
)
_PATTERNS = (
    (re.compile(rb"BZh[1-9]1AY&SY"), "bzip2"),
    (re.compile(rb"\s*(?:<!doctype html|<html)", re.IGNORECASE), "html"),
)
_FOOTERS = ((b"conectix", "vhd"), (b"koly", "dmg"))

UNPACKED_BY = {"gzip": "gzip", "bzip2": "bzip2", "xz": "xz"}
"""The `compression` that a command names them by."""


def recognise(file: ForeignFile) -> str | None:
    """The format's name; None for what can only be a raw disk (a partition table, a file system, an ISO, nothing)."""
    head = file.head(HEAD_BYTES)
    return _by_head(head) or _by_footer(file)


def _by_head(head: bytes) -> str | None:
    for place, signature, name in _SIGNATURES:
        if head.startswith(signature, place):
            return name
    for pattern, name in _PATTERNS:
        if pattern.match(head):
            return name
    return "vmdk" if _is_vmdk_descriptor(head) else None


def _is_vmdk_descriptor(head: bytes) -> bool:
    """A text: comments, empty lines, then `version=1` to 3. QEMU asks for no more (vmdk_probe)."""
    for line in head.splitlines():
        text = line.strip(b" \t")
        if text.lower().startswith(b"# disk descriptorfile"):
            return True
        if text and not text.startswith(b"#"):
            return text in {b"version=1", b"version=2", b"version=3"}
    return False


def _by_footer(file: ForeignFile) -> str | None:
    """A fixed VHD is the raw disk with a footer, and would be a disk that is 512 bytes too long."""
    if file.length < FOOTER_BYTES:
        return None
    footer = file.read(file.length - FOOTER_BYTES, FOOTER_BYTES, "its end")
    return next((name for signature, name in _FOOTERS if footer.startswith(signature)), None)
