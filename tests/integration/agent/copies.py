# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs seen from outside: secondary storage of a test's own, disks with contents, and all that a job may leave.

What is on a volume is read and written in StorPool's own files, so that the agent's host has nothing to do with it.
"""

import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

from agent_process import AgentProcess, Stack, running_stack
from raw_client import RawClient, raw_client
from real_lab import wait_for
from storpool_commands.control import CommandStatus, QueryCommand
from storpool_commands.images import ImageFormat, ImageSource, StoredImage

MIB = 1 << 20
BLOCK = 1 << 20
DISK_BYTES = 10 * MIB
"""Three blocks of a BlockHash, the last one shorter."""
SLOW_BYTES_S = 1 << 20
"""The slowest that a copy can be asked to be: a disk takes 10 s."""
TOOL_TIMEOUT_S = 20.0
WAIT_S = 30.0
REPLY_TIMEOUT_S = 60.0


def disk(size_bytes: int = DISK_BYTES) -> bytes:
    """Data at the beginning, in the middle and at the end, and holes between; no two are the same."""
    random = Random(uuid4().int)  # noqa: S311 - no secret
    data = bytearray(size_bytes)
    for place, length in ((0, MIB), (size_bytes // 2, MIB), (size_bytes - 4096, 4096)):
        data[place : place + length] = random.randbytes(length)
    return bytes(data)


def full_disk(size_bytes: int = DISK_BYTES) -> bytes:
    """Data everywhere: a copy that is asked to be slow is slow."""
    return Random(uuid4().int).randbytes(size_bytes)  # noqa: S311


def block_hash(data: bytes) -> str:
    """As the contract has it."""
    digests = [hashlib.sha256(data[place : place + BLOCK]).digest() for place in range(0, len(data), BLOCK)]
    return f"sha256-1m:{hashlib.sha256(b''.join(digests)).hexdigest()}"


@dataclass
class Depot:
    """A stack, and a store that its agent's settings allow."""

    stack: Stack
    files: Path
    """The store's directory."""
    raw: RawClient
    """A sender that keeps every reply."""
    store: str

    @property
    def agent(self) -> AgentProcess:
        return self.stack.agent

    @contextmanager
    def running_agent(self) -> Generator["Depot"]:
        """For a test that ends the agent and starts it again: what runs then is no other process than before."""
        self.agent.start()
        try:
            yield self
        finally:
            self.agent.stop()

    # what is at StorPool

    def backing(self, reference: str) -> Path:
        """Of a volume or snapshot, the file in which the development StorPool keeps it."""
        process = Path(f"/proc/{self.stack.storpool.pid}/fd")
        places = [entry / reference.removeprefix("~") for entry in process.iterdir() if entry.is_dir()]
        (found,) = {place.resolve(): place for place in places if place.exists()}.values()
        return found

    def volume(self, data: bytes) -> str:
        reference = self.stack.create(len(data))
        with self.backing(reference).open("r+b", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
        return reference

    def snapshot(self, data: bytes) -> str:
        """Of a volume that is deleted again."""
        volume = self.volume(data)
        taken = self.stack.storpool.call("POST", f"VolumeSnapshot/{volume}", {})["snapshotGlobalId"]
        self.stack.storpool.call("POST", f"VolumeDelete/{volume}", {})
        return f"~{taken}"

    def contents(self, reference: str) -> bytes:
        return self.backing(reference).read_bytes()

    def objects(self) -> dict[str, Mapping[str, str]]:
        """Every volume and snapshot that is not deleted: its tags."""
        volumes, snapshots = (self.stack.storpool.call("GET", query) for query in ("VolumesList", "SnapshotsList"))
        listed = [*volumes, *(one for one in snapshots if not one["deleted"])]
        return {one["globalId"]: one["tags"] for one in listed}

    # what is on the store

    def new_path(self, image_format: ImageFormat = "qcow2") -> str:
        """That no file has, in a directory that is not there."""
        return f"{uuid4().hex[:12]}/disk.{image_format}"

    def target(self, image_format: ImageFormat = "qcow2") -> StoredImage:
        return StoredImage(store=self.store, path=self.new_path(image_format))

    def image(self, data: bytes, image_format: ImageFormat = "raw") -> ImageSource:
        """A file with these contents, on the store."""
        path = self.new_path(image_format)
        file = self.files / path
        file.parent.mkdir(parents=True)
        file.write_bytes(data)
        if image_format == "qcow2":
            _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(file), f"{file}.new")
            Path(f"{file}.new").replace(file)
        return ImageSource(store=self.store, path=path, format=image_format)

    def read(self, path: str, image_format: ImageFormat) -> bytes:
        """The disk in a file."""
        file = self.files / path
        if image_format == "raw":
            return file.read_bytes()
        raw = self.stack.directory / "read.raw"
        _run("qemu-img", "convert", "-f", image_format, "-O", "raw", str(file), str(raw))
        try:
            return raw.read_bytes()
        finally:
            raw.unlink()

    def names(self) -> set[str]:
        """Every file, with its directory."""
        return {str(each.relative_to(self.files)) for each in self.files.rglob("*") if not each.is_dir()}

    # what a job leaves

    def left(self) -> list[str]:
        """What should be there only as long as a job runs, in words."""
        parts = [f"file {name}" for name in self.names() if "/." in f"/{name}"]
        tagged = [
            f"{global_id} {dict(tags)}"
            for global_id, tags in self.objects().items()
            if "sp-writing" in tags or tags.get("cs") == "temporary"
        ]
        return [*parts, *tagged, *self._attached(), *self.rows(), *self.mounts(), *self.children(), *self.scratch()]

    def rows(self) -> list[str]:
        """The journal's list of what is there for as long as jobs run."""
        return [f"row {row}" for row in journal(self.agent, "SELECT kind, target, command FROM temporary")]

    def _attached(self) -> list[str]:
        listed = self.stack.storpool.call("GET", "AttachmentsList")
        return [f"{one['globalId']} attached to {one['client']}" for one in listed]

    def mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split(" ")[4] for line in lines]
        return [f"mount {point}" for point in points if point.startswith(f"{self.mount_dir}/")]

    @property
    def mount_dir(self) -> Path:
        return self.stack.directory / "mounts"

    def children(self) -> list[str]:
        return [f"process {pid} {name}" for pid, name in self.processes().items()]

    def processes(self) -> dict[int, str]:
        """Children of every life of the agent, by id: each life is the leader of a session, which they are in."""
        lives = {event["pid"] for event in self.agent.events("starting")}
        found = [_session(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return {pid: name for pid, name, session in found if session in lives and pid not in lives}

    def scratch(self) -> list[str]:
        """Files without a name are found by who has them open: the agent."""
        directory = self.agent.state_dir / "scratch"
        named = [str(each) for each in directory.iterdir()] if directory.exists() else []
        return [f"scratch file {name}" for name in [*named, *self._open_below(directory)]]

    def _open_below(self, directory: Path) -> list[str]:
        descriptors = Path(f"/proc/{self.agent.events('starting')[-1]['pid']}/fd")
        if not descriptors.exists():
            return []
        links = [str(each.readlink()) for each in descriptors.iterdir() if each.is_symlink()]
        return [link for link in links if link.startswith(f"{directory}/")]

    def assert_nothing_left(self) -> None:
        assert self.left() == []

    def wait_nothing_left(self) -> None:
        """For what goes away by itself, after the reply."""
        wait_for(lambda: not self.left(), WAIT_S)

    # a job that runs

    def send(self, command: Any, **envelope: Any) -> str:
        """The request's id."""
        return self.raw.ask(command.model_dump(by_alias=True, mode="json", exclude_none=True), **envelope)

    def reply(self, request_id: str) -> dict[str, Any]:
        """The reply, of which there is one; what the job has left is gone by then."""
        reply = self.raw.reply(request_id, REPLY_TIMEOUT_S)
        self.assert_nothing_left()
        self.raw.settle()
        assert len(self.raw.replies(request_id)) == 1
        return reply

    def cancel(self, request_id: str) -> str:
        """The outcome."""
        return self.stack.management.cancel(UUID(request_id), host=self.stack.host).outcome

    def status(self, request_id: str) -> CommandStatus:
        return self.stack.call(QueryCommand(id=UUID(request_id))).status

    def wait_copying(self, request_id: str, phase: str = "copy") -> None:
        """Until bytes have moved; of a copy that is asked to be slow, not all of them."""
        wait_for(lambda: self._moved(request_id, phase), WAIT_S)

    def _moved(self, request_id: str, phase: str) -> bool:
        progress = self.status(request_id).progress if self.is_known(request_id) else None
        return progress is not None and progress.phase == phase and bool(progress.bytes_done)

    def wait_for(self, reached: Callable[[], bool]) -> None:
        wait_for(reached, WAIT_S)

    def is_known(self, request_id: str) -> bool:
        """Accepted, by this life of the agent or an earlier one."""
        return bool(journal(self.agent, "SELECT 1 FROM command WHERE id = ?", request_id))


@contextmanager
def running_depot(files: Path, *, store: str | None = None, start: bool = True, **settings: Any) -> Generator[Depot]:
    """A stack of its own. Its agent may use this directory, which another `store` may lead to as well."""
    with running_stack(start=False, **settings) as stack:
        secondary = {"directories": [str(files)], "mount_dir": str(stack.directory / "mounts")}
        stack.settings["secondary"] = {**secondary, **stack.settings.get("secondary", {})}
        stack.agent.configure(stack.settings)
        if start:
            stack.agent.start()
        with raw_client(stack.amqp_url) as raw:
            yield Depot(stack, files, raw, store or f"file://{files}")


def journal(agent: AgentProcess, query: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{agent.state_dir}/journal.db?mode=ro", uri=True)) as database:
        return database.execute(query, values).fetchall()


def _session(entry: Path) -> tuple[int, str, int]:
    """Process id, name and session; zeroes for one that has just ended, or is a zombie."""
    try:
        name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return 0, "", 0
    fields = rest.split()
    return (int(entry.name), name, int(fields[3])) if fields[0] != "Z" else (0, "", 0)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=TOOL_TIMEOUT_S)
