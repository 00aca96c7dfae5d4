# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An NFS server that exports a directory of a small file system of its own, and the agent's side of it."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loop_file_system import Kind, LoopFileSystem, loop_file_system
from mount_helper import NfsServer
from storpool_agent.secondary import mountinfo
from storpool_agent.secondary.storage import SecondaryStorage
from storpool_agent.settings import Secondary

EXPORT = "/export/secondary"


@dataclass
class Nas:
    """One store on one server, and the agent that uses it."""

    server: NfsServer
    store: str
    files: Path
    """Where the server has the store's files."""
    disk: LoopFileSystem
    directory: Path
    """For all that the agent has."""

    def agent(self, mount_timeout_s: float = 30.0) -> SecondaryStorage:
        """Another one is what the next start of the agent makes."""
        settings = Secondary(mount_dir=self.mount_dir)
        return SecondaryStorage(settings, self.directory / "scratch", mount_timeout_s=mount_timeout_s)

    @property
    def mount_dir(self) -> Path:
        return self.directory / "mounts"

    @property
    def mounted(self) -> list[Path]:
        """What is mounted there now."""
        return sorted(map(Path, mountinfo.below(str(self.mount_dir))))

    @property
    def point(self) -> Path:
        (found,) = self.mounted
        return found

    def below(self) -> list[Path]:
        """What there is in the agent's directory outside of mounts."""
        assert self.mounted == []
        return sorted(each for each in self.mount_dir.rglob("*") if not each.is_dir())


@contextmanager
def running_nas(kind: Kind, directory: Path) -> Generator[Nas]:
    with loop_file_system(kind) as disk:
        server = NfsServer()
        try:
            backing = disk.path / "exported"
            backing.mkdir()
            yield Nas(server, server.export(EXPORT, backing), backing / "files", disk, directory)
        finally:
            server.close()
