# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Removes what a killed process left: nodes and links of our devices, then the devices.

Several development clusters, and a real StorPool, may share /dev. A node is ours when its loop device has a backing
file with our tag in its path, or no file at all.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from storpool_devcluster.loop import LOOP_MAJOR, Claim, LoopControl, LoopDevice, bound_devices
from storpool_devcluster.roots import BY_ID, BY_NAME, DeviceRoot

_BEYOND_EVERY_FILE = 1 << 62


def drop_nodes(roots: Iterable[DeviceRoot], tag: str) -> None:
    for root in roots:
        nodes = {path for path in root.path.glob("sp-*") if _is_stale(path, tag)}
        for directory in (root.path / BY_NAME, root.path / BY_ID):
            for link in directory.iterdir():
                if link.is_symlink() and link.readlink() in nodes:
                    link.unlink()
        for node in nodes:
            node.unlink()


def drop_devices(control: LoopControl, tag: str) -> None:
    """One that somebody still has open has no capacity from now on, so that no one writes beside the new device."""
    for device in bound_devices():
        if _has_tag(device.backing_name, tag):
            claim = Claim(device)
            if claim.others:
                device.starve(_BEYOND_EVERY_FILE)
            claim.close()
    control.sweep()


def _is_stale(node: Path, tag: str) -> bool:
    facts = node.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return _has_tag(str(node.readlink()), tag)
    if not stat.S_ISBLK(facts.st_mode) or os.major(facts.st_rdev) != LOOP_MAJOR:
        return False
    backing_name = LoopDevice(os.minor(facts.st_rdev)).backing_name
    return not backing_name or _has_tag(backing_name, tag)


def _has_tag(path: str, tag: str) -> bool:
    return f"/{tag}/" in path
