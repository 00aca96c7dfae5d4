# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Directories of this host on file systems that come and go, and files without a name."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_file_system import Kind, LoopFileSystem, loop_file_system
from small_disk import small_disk
from storpool_agent.errors import ImageRefused, ScratchFull, SecondaryUnavailable
from storpool_agent.secondary.storage import SecondaryStorage
from storpool_agent.settings import Secondary

WAIT_S = 20.0


@pytest.fixture
def disk() -> Iterator[LoopFileSystem]:
    with loop_file_system("ext4") as made:
        yield made


def storage(allowed: Path, scratch_dir: Path) -> SecondaryStorage:
    return SecondaryStorage(Secondary(directories=[allowed], mount_dir=scratch_dir / "mounts"), scratch_dir)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=WAIT_S)


def umount(*arguments: str) -> None:
    subprocess.run(["umount", *arguments], check=True, timeout=WAIT_S)


def test_a_directory_whose_file_system_is_gone_is_not_written(disk: LoopFileSystem, tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    mount("--bind", str(disk.path), str(point))
    agent, store = storage(tmp_path, tmp_path / "scratch"), f"file://{point}"
    agent.acquire(store, "r1")
    part = agent.create_part(store, "image", "r1")
    umount("--lazy", str(point))
    with pytest.raises(SecondaryUnavailable, match="mounted or unmounted"):
        agent.publish(part)
    with pytest.raises(SecondaryUnavailable):
        agent.acquire(store, "r2")
    agent.release(store, "r1")
    assert list(point.iterdir()) == []


def test_a_store_may_be_a_mount_below_an_allowed_directory_but_not_have_one_below_it(tmp_path: Path) -> None:
    with small_disk(1) as small:
        agent = storage(small.path.parent, tmp_path / "scratch")
        agent.acquire(f"file://{small.path}", "r1")
        agent.write_text(f"file://{small.path}", "text", "text")
        agent.acquire(f"file://{small.path.parent}", "r1")
        with pytest.raises(ImageRefused, match="another file system"):
            agent.open_image(f"file://{small.path.parent}", f"{small.path.name}/text")
        with pytest.raises(ImageRefused, match="another file system"):
            agent.local_path(f"file://{small.path.parent}", f"{small.path.name}/text")


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_scratch_is_opened_anew_past_the_page_cache(kind: Kind, tmp_path: Path) -> None:
    with loop_file_system(kind) as disk:
        descriptor = storage(tmp_path, disk.path / "scratch").scratch("r1")
        direct = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_DIRECT)
        os.ftruncate(direct, 1 << 20)
        assert os.lseek(direct, 0, os.SEEK_HOLE) == 0
        for each in (direct, descriptor):
            os.close(each)
        assert list((disk.path / "scratch").iterdir()) == []


def test_a_child_opens_scratch_by_its_descriptor(tmp_path: Path) -> None:
    descriptor = storage(tmp_path, tmp_path / "scratch").scratch("r1")
    command = ["qemu-img", "create", "-q", "-f", "raw", f"/proc/self/fd/{descriptor}", "1M"]
    subprocess.run(command, check=True, pass_fds=[descriptor], timeout=WAIT_S)
    assert os.fstat(descriptor).st_size == 1 << 20
    os.close(descriptor)


def test_the_directory_for_scratch_is_the_agents_alone(tmp_path: Path) -> None:
    os.close(storage(tmp_path, tmp_path / "a/scratch").scratch("r1"))
    assert (tmp_path / "a/scratch").stat().st_mode & 0o777 == 0o700


def test_scratch_that_cannot_be_made_names_the_setting(disk: LoopFileSystem, tmp_path: Path) -> None:
    (disk.path / "scratch").mkdir()
    agent = storage(tmp_path, disk.path / "scratch")
    disk.use_up_inodes()
    with pytest.raises(ScratchFull, match=r"secondary\.scratch_dir\): No space left"):
        agent.scratch("r1")
    mount("-o", "remount,ro", str(disk.path))
    with pytest.raises(ScratchFull, match="Read-only file system"):
        agent.scratch("r1")
