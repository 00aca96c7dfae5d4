# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The device behind one attachment: a loop device, or (`--devices=files`) a link to the backing file."""

import os
from pathlib import Path
from stat import S_IFBLK
from typing import Protocol

from storpool_devcluster import openers
from storpool_devcluster.backing import Backing
from storpool_devcluster.loop import LAST_NUMBER, LOOP_MAJOR, Claim, LoopControl, LoopDevice
from storpool_devcluster.records import Volume
from storpool_devcluster.retirement import Retirement

_CLAIM_TRIES = 3


class Export(Protocol):
    def make_node(self, path: Path) -> None:
        """Raises FileExistsError when the name is taken."""
        ...

    def claim(self, *, force: bool) -> bool:
        """Begin to detach. False: somebody has it open, and nothing was changed."""
        ...

    def restore(self) -> None:
        """Take a successful claim back."""
        ...

    def release(self) -> None:
        """Finish what was claimed."""
        ...

    def take_capacity(self) -> None: ...

    def set_read_only(self, read_only: bool) -> None: ...

    def starve(self) -> None:
        """Let every further request to the device fail."""
        ...

    def describe(self) -> str: ...


class ExportMaker(Protocol):
    @property
    def removals(self) -> int:
        """How many devices are still on their way out."""
        ...

    def make(self, volume: Volume, *, read_only: bool) -> Export: ...

    def empty_node(self, path: Path) -> Path:
        """A node at this path whose device has no capacity."""
        ...


class LoopExport:
    """[X] After a forced detach, writes of those who still have it open fail with ENOSPC; StorPool's with EIO."""

    def __init__(self, device: LoopDevice, gid: str, maker: "LoopExports") -> None:
        self._device = device
        self._gid = gid
        self._maker = maker
        self._claim: Claim | None = None

    def make_node(self, path: Path) -> None:
        os.mknod(path, S_IFBLK | 0o660, self._device.device_number())

    def claim(self, *, force: bool) -> bool:
        for _ in range(_CLAIM_TRIES):
            claim = Claim(self._device)
            if force or not claim.others or self._only_udev():
                self._claim = claim
                if claim.others and force:
                    self.starve()
                return True
            claim.keep()
            if self._has_user():
                return False
        return False

    def restore(self) -> None:
        claim, self._claim = self._claim, None
        if claim is None:
            return
        if claim.others:
            claim.keep()
            return
        claim.close()
        fd = self._maker.backing.open(self._gid)
        try:
            os.close(self._device.configure(fd))
        finally:
            os.close(fd)

    def release(self) -> None:
        if self._claim is not None:
            self._claim.close()
        self._maker.retirement.retire(self._device)

    def take_capacity(self) -> None:
        self._device.take_capacity()

    def set_read_only(self, read_only: bool) -> None:
        self._device.set_read_only(read_only)

    def starve(self) -> None:
        fd = self._maker.backing.open(self._gid)
        try:
            self._device.starve(os.fstat(fd).st_size)
        finally:
            os.close(fd)

    def describe(self) -> str:
        return str(self._device.path)

    def _only_udev(self) -> bool:
        if self._maker.busy_udev or openers.is_held_exclusively(self._device.path):
            return False
        found = openers.of_path(self._device.path)
        return bool(found) and all(opener.is_udev for opener in found)

    def _has_user(self) -> bool:
        """Something that will not go away by itself: no reason to claim it again."""
        found = openers.of_path(self._device.path)
        return any(not opener.is_udev for opener in found) or openers.is_held_exclusively(self._device.path)


class LoopExports:
    def __init__(
        self, backing: Backing, control: LoopControl, retirement: Retirement, *, busy_udev: bool = False
    ) -> None:
        self.backing = backing
        self.retirement = retirement
        self.busy_udev = busy_udev
        self._control = control

    @property
    def removals(self) -> int:
        return self.retirement.pending

    def make(self, volume: Volume, *, read_only: bool) -> LoopExport:
        fd = self.backing.open(volume.gid)
        try:
            device, device_fd = self._control.bind(fd, read_only=volume.snapshot)
            os.close(device_fd)
        finally:
            os.close(fd)
        if read_only and not volume.snapshot:
            device.set_read_only(True)
        return LoopExport(device, volume.gid, self)

    def empty_node(self, path: Path) -> Path:
        """A minor number that no loop device has: the kernel makes an empty one when it is opened, or refuses."""
        os.mknod(path, S_IFBLK | 0o660, os.makedev(LOOP_MAJOR, LAST_NUMBER + 1))
        return path


class FileExport:
    """No block device: what opens the node opens the backing file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._node: Path | None = None

    def make_node(self, path: Path) -> None:
        path.symlink_to(self._file)
        self._node = path

    def claim(self, *, force: bool) -> bool:
        return force or not openers.of_path(self._file)

    def restore(self) -> None: ...

    def release(self) -> None: ...

    def take_capacity(self) -> None: ...

    def set_read_only(self, read_only: bool) -> None: ...

    def starve(self) -> None: ...

    def describe(self) -> str:
        return str(self._file)


class FileExports:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def removals(self) -> int:
        return 0

    def make(self, volume: Volume, *, read_only: bool) -> FileExport:  # noqa: ARG002  files have no read-only flag
        return FileExport(self._directory / volume.gid)

    def empty_node(self, path: Path) -> Path:
        path.touch()
        return path
