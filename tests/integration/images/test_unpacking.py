# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Packed files are unpacked by the child, within its limits."""

import gzip
import lzma
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile_images import MIB, PACKED, UNPACKED_LIMIT_BYTES, HostilePacked
from image_files import Watched
from small_disk import small_disk
from storpool_agent.errors import AgentError, Cancelled, ImageRefused, ScratchFull
from storpool_agent.images import unpacking
from storpool_agent.images.model import Image
from storpool_commands.images import Compression

NOISE = os.urandom(MIB)
DISK = NOISE + bytes(20 * MIB) + NOISE + bytes(MIB + 100)


@pytest.fixture
def target() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def unpack(
    path: Path, compression: Compression, target: int, job: Watched, max_bytes: int = UNPACKED_LIMIT_BYTES
) -> None:
    with path.open("rb") as file:
        unpacking.unpack(
            Image(file.fileno(), "raw", name=path.name), compression, target, job.task, max_bytes=max_bytes
        )


@pytest.mark.parametrize(
    ("program", "compression"),
    [
        (("gzip", "-1"), "gzip"),
        (("gzip", "-9"), "gzip"),
        (("bzip2",), "bzip2"),
        (("xz", "-1"), "xz"),
        (("xz", "-9e"), "xz"),
        (("xz", "-T2", "--block-size=1MiB"), "xz"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_the_usual_programs_pack_is_unpacked(
    program: tuple[str, ...], compression: Compression, target: int, job: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "disk.packed"
    path.write_bytes(subprocess.run(program, input=DISK, check=True, capture_output=True).stdout)
    unpack(path, compression, target, job, len(DISK))
    assert os.pread(target, 1 << 30, 0) == DISK
    assert os.fstat(target).st_blocks * 512 < 4 * MIB
    assert job.reports
    assert all(done <= path.stat().st_size == total for done, total in job.reports)


@pytest.mark.parametrize("hostile", PACKED, ids=lambda packed: packed.name)
def test_a_hostile_file_is_refused(hostile: HostilePacked, target: int, job: Watched, tmp_path: Path) -> None:
    path = hostile.build(tmp_path)
    with pytest.raises(AgentError, match=rf"^unpacking {path.name}: ") as refused:
        unpack(path, hostile.compression, target, job)
    assert refused.value.code == hostile.code
    assert os.fstat(target).st_size <= UNPACKED_LIMIT_BYTES


def test_no_room_is_said_to_be_that(job: Watched, tmp_path: Path) -> None:
    path = tmp_path / "disk.gz"
    path.write_bytes(gzip.compress(NOISE * 3))
    with small_disk(1) as disk, tempfile.TemporaryFile(dir=disk.path) as file:
        with pytest.raises(ScratchFull, match=r"unpacking disk\.gz: no room after \d+ bytes: No space left"):
            unpack(path, "gzip", file.fileno(), job)


def test_what_takes_more_time_than_its_result_can_need_is_refused(
    target: int, job: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams of nothing: they need time, and nothing comes out."""
    monkeypatch.setattr(unpacking, "START_CPU_S", 2)
    path = tmp_path / "disk.xz"
    path.write_bytes(lzma.compress(b"") * 2_000_000)
    with pytest.raises(ImageRefused, match="out of all proportion"):
        unpack(path, "xz", target, job, 1)


def test_an_interrupt_ends_it(target: int, job: Watched, tmp_path: Path) -> None:
    path = tmp_path / "disk.gz"
    path.write_bytes(gzip.compress(bytes(16 * MIB)) * 10_000)
    task = job.task

    def cancel(_done: int, _total: int | None) -> None:
        job.interrupt.set(Cancelled("by its sender"))

    with path.open("rb") as file, pytest.raises(Cancelled):
        unpacking.unpack(
            Image(file.fileno(), "raw", name="disk.gz"),
            "gzip",
            target,
            type(task)(interrupt=job.interrupt, report=cancel),
            max_bytes=1 << 50,
        )
