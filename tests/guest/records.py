# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The records that the guest's `record` command writes, read on the host: one lost, torn, or written by another life
of the machine is found.

Record n is slot n, 4 KiB, from an offset on: `n unique digest-of-(n-1) digest`, padded, 32 times. The unique word is
random, so two lives of a machine never write the same record, and each record vouches for all before it.
"""

import hashlib
import mmap
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

RECORD_BYTES = 4096
COPIES = 32
MIB = 1 << 20
_NONE = bytes(RECORD_BYTES)


class RecordsDamaged(AssertionError):
    """What is on the disk is not what one machine has written, one record after another."""


@dataclass(frozen=True)
class Written:
    """A record that the guest says is on its disks."""

    number: int
    digest: str


def parse_written(line: str) -> Written:
    number, digest = line.split()
    return Written(int(number), digest)


def check_records(device: Path, offset_mib: int, promised: Collection[Written]) -> int:
    """How many records there are, without a gap; all that were promised are among them. Raises RecordsDamaged."""
    area = _read_directly(device, offset_mib * MIB)
    slots = [bytes(area[at : at + RECORD_BYTES]) for at in range(RECORD_BYTES, len(area), RECORD_BYTES)]
    last = max((number for number, slot in enumerate(slots, 1) if slot != _NONE), default=0)
    digests = ["none"]
    for number, slot in enumerate(slots[:last], 1):
        digests.append(_check(device, number, slot, digests[-1]))
    for one in promised:
        if one.number > last or digests[one.number] != one.digest:
            raise RecordsDamaged(f"{device}: record {one.number} of {last} is not the one that the guest wrote there")
    return last


def _check(device: Path, number: int, slot: bytes, before: str) -> str:
    """Its digest."""
    line = slot[: RECORD_BYTES // COPIES]
    if slot == _NONE:
        raise RecordsDamaged(f"{device}: record {number} was lost, a later one is there")
    if slot != line * COPIES:
        raise RecordsDamaged(f"{device}: record {number} is torn")
    text, _, digest = line.decode(errors="replace").strip().rpartition(" ")
    if hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() != digest or not text.startswith(f"{number} "):
        raise RecordsDamaged(f"{device}: {text!r} is no record {number}")
    if not text.endswith(f" {before}"):
        raise RecordsDamaged(f"{device}: record {number} was not written by who wrote the one before")
    return digest


def _read_directly(device: Path, offset: int) -> memoryview:
    """Not from this kernel's cache: another device over the same file has another one."""
    opened = os.open(device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        size = os.lseek(opened, 0, os.SEEK_END) - offset
        area = mmap.mmap(-1, size)
        done = 0
        while done < size:
            done += os.preadv(opened, [memoryview(area)[done:]], offset + done)
        return memoryview(area)
    finally:
        os.close(opened)
