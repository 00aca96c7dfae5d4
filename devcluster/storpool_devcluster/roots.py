# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One client's device directory: nodes `sp-<N>`, links `storpool/<name>` and `storpool-byid/<gid>`.

Links are absolute, made under another name and renamed, and removed only while they lead to our node: several
development clusters may share /dev.

[I] A volume without a name gets the link `storpool/~<gid>` (switch: `--no-unnamed-links`).
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

BY_NAME, BY_ID = "storpool", "storpool-byid"


@dataclass(frozen=True)
class DeviceRoot:
    path: Path
    unnamed_links: bool = True

    def prepare(self) -> None:
        for name in (BY_NAME, BY_ID):
            (self.path / name).mkdir(parents=True, exist_ok=True)

    def leave(self) -> None:
        """Take the directories away if nobody uses them: a host without StorPool has none."""
        for name in (BY_NAME, BY_ID):
            with contextlib.suppress(OSError):
                (self.path / name).rmdir()

    def require_device_nodes(self) -> None:
        """A nodev mount, as many temporary directories are, takes nodes and does not let them be opened."""
        if os.statvfs(self.path).f_flag & os.ST_NODEV:
            raise PermissionError(f"{self.path}: no device nodes here, the file system is mounted nodev")

    def node(self, position: int) -> Path:
        return self.path / f"sp-{position}"

    def links(self, label: str, gid: str) -> set[Path]:
        found = {self.path / BY_ID / gid}
        if self.unnamed_links or not label.startswith("~"):
            found.add(self.path / BY_NAME / label)
        return found


def point(link: Path, target: Path) -> None:
    """Another cluster that shares the directory may have taken it away while it was empty."""
    unfinished = link.with_name(f".{link.name[:200]}.{os.getpid()}")
    while True:
        link.parent.mkdir(exist_ok=True)
        try:
            unfinished.symlink_to(target)
        except FileNotFoundError:
            continue
        unfinished.rename(link)
        return


def unlink(link: Path, target: Path) -> None:
    """Remove the link if it still leads there."""
    with contextlib.suppress(FileNotFoundError, OSError):
        if link.readlink() == target:
            link.unlink()
