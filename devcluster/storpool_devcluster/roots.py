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
        """Make the directories. A file system mounted nodev cannot serve: its nodes could not be opened."""
        for name in (BY_NAME, BY_ID):
            (self.path / name).mkdir(parents=True, exist_ok=True)

    def leave(self) -> None:
        """Take the directories away if nobody uses them: a host without StorPool has none."""
        for name in (BY_NAME, BY_ID):
            with contextlib.suppress(OSError):
                (self.path / name).rmdir()

    @property
    def allows_devices(self) -> bool:
        return not os.statvfs(self.path).f_flag & os.ST_NODEV

    def node(self, position: int) -> Path:
        return self.path / f"sp-{position}"

    def links(self, label: str, gid: str) -> set[Path]:
        found = {self.path / BY_ID / gid}
        if self.unnamed_links or not label.startswith("~"):
            found.add(self.path / BY_NAME / label)
        return found

    def drop_stale(self, positions: set[int], names: set[str], gids: set[str]) -> None:
        """What a killed process left: its nodes, and the links that lead to them."""
        nodes = {str(self.node(position)) for position in positions}
        for path in [self.path / BY_NAME / name for name in names] + [
            self.path / BY_ID / gid for gid in gids
        ]:
            if path.is_symlink() and str(path.readlink()) in nodes:
                path.unlink()
        for node in nodes:
            Path(node).unlink(missing_ok=True)


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
