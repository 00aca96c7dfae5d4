# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How large the disk in a file or device is, asked of itself."""

import os
from stat import S_ISBLK, S_ISREG

from storpool_agent.domains.model import MirrorTarget
from storpool_agent.errors import BlockJobFailed

# QEMU, docs/interop/qcow2.txt: big-endian; magic in bytes 0-3, size in bytes 24-31.
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_SIZE = slice(24, 32)


def size_bytes(target: MirrorTarget) -> int:
    """Raises BlockJobFailed when it cannot be opened, or is something else than it is said to be."""
    try:
        descriptor = os.open(target.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BlockJobFailed(
            f"{target.path}, which was to be copied to, cannot be opened: {error.strerror}", path=target.path
        ) from error
    try:
        return _size_bytes(descriptor, target)
    finally:
        os.close(descriptor)


def _size_bytes(descriptor: int, target: MirrorTarget) -> int:
    kind = os.fstat(descriptor).st_mode
    if not (S_ISBLK(kind) if target.device else S_ISREG(kind)):
        what = "block device" if target.device else "file"
        raise BlockJobFailed(f"{target.path}, which was to be copied to, is no {what}", path=target.path)
    if target.format == "raw":
        return os.lseek(descriptor, 0, os.SEEK_END)
    header = os.pread(descriptor, _QCOW2_SIZE.stop, 0)
    if not header.startswith(_QCOW2_MAGIC) or len(header) < _QCOW2_SIZE.stop:
        raise BlockJobFailed(f"{target.path}, which was to be copied to, is no qcow2", path=target.path)
    return int.from_bytes(header[_QCOW2_SIZE], "big")
