# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""LUKS (version 1) by QEMU's own driver: a header is written, read, and a passphrase tried. No dm-crypt is needed.

A passphrase is given to a tool by a descriptor of sealed memory, which has no name in any file system, and is in
neither its arguments nor its environment.
"""

import fcntl
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import SecretBytes

from storpool_agent import retry
from storpool_agent.encryption_errors import WrongKey
from storpool_agent.errors import CopyFailed
from storpool_agent.images import blame, flushing, nodes
from storpool_agent.images.child import Command, ToolFailed, output, run
from storpool_agent.images.launch import Limits
from storpool_agent.images.model import Image, Task
from storpool_agent.images.sizes import device_size

MAGIC = b"LUKS\xba\xbe"
HEADER_BYTES = 592
"""Up to the end of the eight key slots; their key material follows (LUKS1 On-Disk Format 1.2.3, figure 1)."""
PAYLOAD_OFFSET_BYTES = 2_068_480
"""Where QEMU lets the data begin with a key of 512 bits: the slots' material is 8 x 504 sectors behind 8 of header."""
CIPHER = ("cipher-alg=aes-256", "cipher-mode=xts", "ivgen-alg=plain64", "hash-alg=sha256")
"""QEMU's defaults, said all the same: PAYLOAD_OFFSET_BYTES follows from them. cryptsetup reads them, too."""
ITERATION_MS = 2000
"""What cryptsetup and QEMU take by default: a passphrase that somebody chose is worth guessing."""
LIMITS = Limits(address_space_bytes=8 << 30)
FORMAT_S = 600.0
"""Some seconds are its work, and the storage may be busy."""
UNLOCK_S = 60.0

_PREFIX = struct.Struct(">6sH32s32s32sI")
_UUID = slice(168, 208)
_SECTOR_BYTES = 512
_WRONG = "Invalid password"
_UNMEASURED = "Unable to get accurate CPU usage"


class Unmeasured(CopyFailed):
    """By QEMU's measure a passphrase is tried in no time at all, so that it does not know how often to hash it.

    It happens where the kernel counts processor time by ticks (QEMU's crypto/pbkdf.c gives up at a difference of
    zero). The next try begins from the start.
    """


@dataclass(frozen=True)
class Luks:
    """What a header says."""

    payload_offset_bytes: int
    uuid: str
    cipher: str
    """As cryptsetup writes it: `aes-xts-plain64`."""


def parse(beginning: bytes) -> Luks | None:
    """The header in a disk's first HEADER_BYTES; None when there is none. A version that is not 1 is none of ours.

    Raises CopyFailed for a header that is damaged.
    """
    magic, version, cipher, mode, _, offset = _PREFIX.unpack_from(beginning.ljust(_PREFIX.size, b"\0"))
    if magic != MAGIC or version != 1:
        return None
    if len(beginning) < HEADER_BYTES or not offset:
        raise CopyFailed("the LUKS header is damaged: it is cut off, or its data begins nowhere")
    words = [_text(one) for one in (cipher, mode)]
    return Luks(offset * _SECTOR_BYTES, _text(beginning[_UUID]), "-".join(words))


@contextmanager
def sealed(passphrase: SecretBytes) -> Generator[int]:
    """A descriptor to read it from, for as long as it is needed; nobody can change what is in it."""
    descriptor = os.memfd_create("passphrase", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, passphrase.get_secret_value())
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor
    finally:
        os.close(descriptor)


def encrypt(image: Image, task: Task, iteration_ms: int) -> None:
    """See Images.encrypt."""
    size_bytes = device_size(image) - PAYLOAD_OFFSET_BYTES
    if size_bytes <= 0:
        raise CopyFailed(f"{image.name} is too small for a LUKS header; nothing was written", device=image.name)
    options = ",".join((f"key-secret={nodes.KEY}", *CIPHER, f"iter-time={iteration_ms}"))
    argv = ("qemu-img", "create", "-q", "-f", "luks", *nodes.objects(image), "-o", options)
    command = Command(
        (*argv, f"host_device:{nodes.path(image)}", str(size_bytes)),
        f"formatting {image.name}",
        files=nodes.files(image),
        limits=LIMITS,
        timeout_s=FORMAT_S,
    )
    try:
        for attempt in retry.a_few_times((Unmeasured,)):
            with attempt:
                _create(command, task)
        flushing.flush(image, task)
    except ToolFailed as failed:
        raise blame.of_making(failed, image) from failed


def _create(command: Command, task: Task) -> None:
    try:
        run(command, task)
    except ToolFailed as failed:
        if _UNMEASURED in failed.said:
            raise Unmeasured(
                f"{command.subject}: QEMU could not measure how fast this host tries a passphrase ({failed.said}); "
                "send the command again"
            ) from failed
        raise


def unlock(image: Image, task: Task) -> None:
    """See Images.unlock. That it reads the first sector's place is what has QEMU open it."""
    argv = ("qemu-img", "map", "-U", "--output=json", f"--max-length={_SECTOR_BYTES}", *nodes.objects(image))
    command = Command(
        (*argv, "--image-opts", nodes.target(image, limited=False)),
        f"opening {image.name}",
        files=nodes.files(image),
        limits=LIMITS,
        timeout_s=UNLOCK_S,
    )
    try:
        output(command, task, max_bytes=1 << 16)
    except ToolFailed as failed:
        if _WRONG in failed.said:
            raise WrongKey(f"the key does not open {image.name}", device=image.name) from failed
        raise blame.of_reading(failed, image) from failed


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace")
