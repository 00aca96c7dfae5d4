# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How large the disk in an image is."""

import fcntl
import json
import os
import struct
from typing import Any

from storpool_agent.errors import ImageRefused
from storpool_agent.images import blame, nodes
from storpool_agent.images.child import Command, ToolFailed, output
from storpool_agent.images.launch import Limits
from storpool_agent.images.model import Image, Task
from storpool_agent.images.reading import read

SECTOR_BYTES = 512
BLKGETSIZE64 = 0x80081272
LUKS_PAYLOAD_OFFSET_AT = 104
"""In a LUKS1 header, in sectors; see `luks.parse`."""
INFO_LIMITS = Limits(address_space_bytes=1 << 30, cpu_s=60)
"""What cinder allows it (image_conversion_cpu_limit): a header that takes more is meant to do harm."""
INFO_TIMEOUT_S = 60.0
INFO_BYTES = 1 << 20


def virtual_size(image: Image, task: Task) -> int:
    """In bytes; of a qcow2 qemu-img is asked, unless the image says it.

    A raw file that ends within a sector is a disk with that sector, the rest of it zeroes, as for QEMU.

    Raises ImageRefused for a qcow2 that refers to another file, as well as `child.run` does.
    """
    if image.device:
        return room(image, task)
    if image.format == "raw":
        return -(-_length(image) // SECTOR_BYTES) * SECTOR_BYTES
    if image.virtual_size_bytes is not None:
        return image.virtual_size_bytes
    info = _info(image, task)
    if "backing-filename" in info or "data-file" in info.get("format-specific", {}).get("data", {}):
        raise ImageRefused(
            f"{image.name} refers to another file; only an image that is complete is read", file=image.name
        )
    return int(info["virtual-size"])


def room(image: Image, task: Task) -> int:
    """Of a device: how large a disk has room in it. Of an encrypted one that is what is behind its header."""
    size_bytes = device_size(image)
    if image.luks is None:
        return size_bytes
    offset = int.from_bytes(read(image, LUKS_PAYLOAD_OFFSET_AT, 4, task), "big")
    return max(0, size_bytes - offset * SECTOR_BYTES)


def device_size(image: Image) -> int:
    """Of a block device, in bytes."""
    try:
        answer = fcntl.ioctl(image.descriptor, BLKGETSIZE64, bytes(8))
    except OSError as error:
        raise blame.of_a_call(error, image) from error
    return int(struct.unpack("=Q", answer)[0])


def _length(image: Image) -> int:
    try:
        return os.fstat(image.descriptor).st_size
    except OSError as error:
        raise blame.of_a_call(error, image) from error


def _info(image: Image, task: Task) -> dict[str, Any]:
    command = Command(
        ("qemu-img", "info", "--output=json", nodes.source(image)),
        f"looking into {image.name}",
        files={image.descriptor: image.name},
        limits=INFO_LIMITS,
        timeout_s=INFO_TIMEOUT_S,
    )
    try:
        found: dict[str, Any] = json.loads(output(command, task, max_bytes=INFO_BYTES))
    except ToolFailed as failed:
        raise blame.of_reading(failed, image) from failed
    return found
