# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Backing files: one sparse file for each volume and snapshot, named by its global id.

A snapshot does not flush first: what a writer still has in its page cache is missing from it, as on a real array.
"""

import os

from storpool_devcluster.pool import Pool, clone_file

_COPY_BYTES = 64 << 20


class Backing:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def create(self, gid: str, size_bytes: int) -> None:
        fd = self.open(gid, os.O_CREAT | os.O_TRUNC)
        try:
            os.ftruncate(fd, size_bytes)
        finally:
            os.close(fd)

    def clone(self, source: str, target: str, size_bytes: int) -> None:
        """Make or replace the target. It gets a new inode: who still has the old one open keeps the old data."""
        unfinished = f"{target}.new"
        source_fd = self.open(source)
        target_fd = self.open(unfinished, os.O_CREAT | os.O_TRUNC)
        try:
            self._copy(source_fd, target_fd)
            os.ftruncate(target_fd, size_bytes)
            os.rename(unfinished, target, src_dir_fd=self._pool.directory_fd, dst_dir_fd=self._pool.directory_fd)
        finally:
            os.close(source_fd)
            os.close(target_fd)

    def resize(self, gid: str, size_bytes: int) -> None:
        fd = self.open(gid)
        try:
            os.ftruncate(fd, size_bytes)
        finally:
            os.close(fd)

    def delete(self, gid: str) -> None:
        os.unlink(gid, dir_fd=self._pool.directory_fd)

    def open(self, gid: str, flags: int = 0) -> int:
        return os.open(gid, os.O_RDWR | os.O_CLOEXEC | flags, 0o600, dir_fd=self._pool.directory_fd)

    def stored_bytes(self, gid: str) -> int:
        return os.stat(gid, dir_fd=self._pool.directory_fd).st_blocks * 512

    def reconcile(self, sizes_bytes: dict[str, int]) -> None:
        """Undo what a killed process did to files and had not committed."""
        with os.scandir(self._pool.directory_fd) as entries:
            orphans = [entry.name for entry in entries if entry.name not in sizes_bytes]
        for name in orphans:
            self.delete(name)
        for gid, size_bytes in sizes_bytes.items():
            self.resize(gid, size_bytes)

    def free_bytes(self) -> tuple[int, int]:
        """Free and total."""
        facts = os.fstatvfs(self._pool.directory_fd)
        return facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize

    def _copy(self, source_fd: int, target_fd: int) -> None:
        if self._pool.clones:
            clone_file(source_fd, target_fd)
            return
        size = os.fstat(source_fd).st_size
        for start, end in _data_extents(source_fd, size):
            position = start
            while position < end:
                length = min(_COPY_BYTES, end - position)
                position += os.copy_file_range(source_fd, target_fd, length, position, position)


def _data_extents(fd: int, size: int) -> list[tuple[int, int]]:
    extents: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:  # ENXIO: no data after this position
            break
        position = os.lseek(fd, start, os.SEEK_HOLE)
        extents.append((start, position))
    return extents
