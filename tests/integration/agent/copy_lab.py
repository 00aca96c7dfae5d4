# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An agent with stores: a server's export, which it mounts, a directory of its host, and a web server."""

import gzip
import subprocess
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar
from uuid import UUID, uuid4

from agent_process import Stack, running_stack
from guest import pattern
from image_server import WebSite, web_site
from mount_helper import NfsServer
from real_lab import wait_for
from storpool_agent.secondary import mountinfo
from storpool_commands.client import CommandFailed
from storpool_commands.control import JobProgress, QueriedCommand, QueryCommand
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk
from storpool_commands.errors import ErrorCode
from storpool_commands.images import ImageFormat, ImageSource, StoredImage
from storpool_commands.labels import KIND, WRITING
from storpool_commands.snapshots import TakeSnapshot
from storpool_commands.volumes import DeleteVolume
from storpool_commands.wire import CommandModel

MIB = 1 << 20
SIZE = 18 * MIB + 512
"""Of the disks that `contents` makes: the last block of a BlockHash is not a whole one."""
TOOL_TIMEOUT_S = 60.0
REPLY_TIMEOUT_S = 120.0
R = TypeVar("R")


def contents(seed: str) -> bytes:
    """Of a disk: data at the beginning, in the middle and in the last sector, zeroes between."""
    data = bytearray(SIZE)
    data[: 3 * MIB] = pattern(0, 3, seed)
    data[9 * MIB : 11 * MIB] = pattern(9, 2, seed)
    data[-512:] = pattern(18, 1, seed)[:512]
    return bytes(data)


@dataclass(frozen=True)
class Store:
    """As commands name it, and where its files are."""

    url: str
    files: Path

    def image(self, path: str) -> StoredImage:
        return StoredImage(store=self.url, path=path)

    def source(self, path: str, form: ImageFormat, **further: Any) -> ImageSource:
        return ImageSource(store=self.url, path=path, format=form, **further)

    def put(self, path: str, data: bytes, form: ImageFormat = "raw") -> Path:
        """Have an image of this disk there."""
        place = self.files / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile() as raw:
            raw.write(data)
            raw.flush()
            _tool("qemu-img", "convert", "-f", "raw", "-O", form, raw.name, str(place))
        return place

    def disk(self, path: str, form: ImageFormat = "raw") -> bytes:
        """What is on the disk in an image, which is sound."""
        place = self.files / path
        if form == "raw":
            return place.read_bytes()
        _tool("qemu-img", "check", "-q", "-f", form, str(place))
        with tempfile.NamedTemporaryFile() as raw:
            _tool("qemu-img", "convert", "-f", form, "-O", "raw", str(place), raw.name)
            return Path(raw.name).read_bytes()

    def names(self) -> set[str]:
        """Of all files, those too that are not whole yet."""
        return {str(each.relative_to(self.files)) for each in self.files.rglob("*") if each.is_file()}


@dataclass
class Running:
    """A copy job that somebody waits for."""

    request_id: UUID
    reply: "Future[Any]"

    def result(self) -> Any:
        """Raises CommandFailed."""
        return self.reply.result(REPLY_TIMEOUT_S)


@dataclass
class CopyLab:
    """The stack and its stores."""

    stack: Stack
    nfs: Store
    nas: NfsServer
    local: Store
    web: WebSite
    mount_dir: Path
    waiting: ThreadPoolExecutor

    def volume(self, data: bytes | None = None, *, size: int = SIZE) -> str:
        """A new volume's reference, attached nowhere."""
        made = self.stack.create(len(data) if data else size)
        if data:
            path = Path(self.stack.call(ConnectPhysicalDisk(volume=made)).path)
            with path.open("r+b") as device:
                device.write(data)
            self.stack.call(DisconnectPhysicalDisk(volume=made))
        return made

    def snapshot(self, data: bytes) -> str:
        """Of a volume that is gone since."""
        volume = self.volume(data)
        taken = self.stack.call(TakeSnapshot(volume=volume))
        self.stack.call(DeleteVolume(volume=volume))
        return f"~{taken.global_id}"

    def read(self, *, volume: str | None = None, snapshot: str | None = None) -> bytes:
        """All of it, by a device that is attached for that."""
        path = Path(self.stack.call(ConnectPhysicalDisk(volume=volume, snapshot=snapshot)).path)
        data = path.read_bytes()
        self.stack.call(DisconnectPhysicalDisk(volume=volume, snapshot=snapshot))
        return data

    def begin(self, command: CommandModel[Any]) -> Running:
        """Send it, and do not wait."""
        request_id = uuid4()
        reply = self.waiting.submit(self.stack.call, command, request_id=request_id, timeout_s=REPLY_TIMEOUT_S)
        return Running(request_id, reply)

    def query(self, running: Running) -> QueriedCommand:
        return self.stack.management.control(QueryCommand(id=running.request_id), host=self.stack.host)

    def wait_until(self, running: Running, reached: Callable[[JobProgress], bool]) -> JobProgress:
        """Until the job is that far. It must not have ended before."""
        seen: list[JobProgress] = []

        def look() -> bool:
            assert not running.reply.done(), f"it has ended: {running.reply.exception() or running.reply.result()}"
            progress = self._progress(running)
            if progress is not None and reached(progress):
                seen.append(progress)
            return bool(seen)

        wait_for(look, REPLY_TIMEOUT_S)
        return seen[0]

    def _progress(self, running: Running) -> JobProgress | None:
        try:
            return self.query(running).status.progress
        except CommandFailed as failure:
            if failure.code is not ErrorCode.UNKNOWN_REQUEST:  # the question overtook it
                raise
            return None

    def wait_until_copying(self, running: Running) -> JobProgress:
        """Until it has moved some bytes, and not all."""
        return self.wait_until(running, lambda it: it.phase == "copy" and bool(it.bytes_done))

    def mounted(self) -> list[str]:
        return sorted(mountinfo.below(str(self.mount_dir)))

    def snapshots(self) -> dict[str, dict[str, str]]:
        """Those that are not deleted: global id to tags."""
        listed = self.stack.storpool.call("GET", "SnapshotsList")
        return {one["globalId"]: one["tags"] for one in listed if not one["deleted"]}

    def volumes(self) -> dict[str, dict[str, str]]:
        """Global id to tags."""
        return {one["globalId"]: one["tags"] for one in self.stack.storpool.call("GET", "VolumesList")}

    def attached(self) -> set[str]:
        """References of what the agent's host has attached."""
        listed = self.stack.storpool.call("GET", "AttachmentsList")
        return {f"~{one['globalId']}" for one in listed if one["client"] == 1}

    def temporary(self) -> set[str]:
        """What no job may leave: half a file or volume, a snapshot of its own, a mount."""
        parts = {name for store in (self.nfs, self.local) for name in store.names() if "/." in f"/{name}"}
        snapshots = {each for each, tags in self.snapshots().items() if tags.get(KIND) == "temporary"}
        writing = {each for each, tags in self.volumes().items() if WRITING in tags or tags.get(KIND) == "temporary"}
        return parts | snapshots | writing | set(self.mounted())


@contextmanager
def running_copy_lab(**settings: Any) -> Generator[CopyLab]:
    """Needs the fixture `nfs_client`. Further settings are sections, as for `running_stack`."""
    with ExitStack() as ending:
        directory = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="stores-")))
        directory.chmod(0o755)  # QEMU enters it, on a laptop as a user of its own
        local, export, mounts = (directory / name for name in ("local", "export", "mounts"))
        local.mkdir()
        export.mkdir()
        nas = NfsServer()
        ending.callback(nas.close)
        nfs = Store(nas.export("/export/secondary", export), export / "files")
        web = ending.enter_context(web_site())
        secondary = {"directories": [str(local)], "mount_dir": str(mounts), "web_hosts": [web.address]}
        stack = ending.enter_context(running_stack(secondary=secondary, **settings))
        waiting = ending.enter_context(_threads(4))
        yield CopyLab(stack, nfs, nas, Store(f"file://{local}", local), web, mounts, waiting)


def _threads(count: int) -> ThreadPoolExecutor:
    """All of them are there from the beginning: none is left behind by the test that is the first to need it."""
    threads = ThreadPoolExecutor(count, thread_name_prefix="waiting")
    together = Barrier(count)
    wait([threads.submit(together.wait) for _ in range(count)])
    return threads


def packed(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


def _tool(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=TOOL_TIMEOUT_S)
