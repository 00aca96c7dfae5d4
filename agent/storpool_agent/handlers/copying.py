# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copying the contents of a disk, and proving that they arrived: what all copy jobs do.

A file gets its name, and a volume loses the tag that keeps it from being used, only when what was read back from it
has the hash of what was read from the source. That this is reached is noted before: a later run goes on from there.
"""

import os
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog
from pydantic import BaseModel, ConfigDict

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import ChecksumMismatch, CopyMismatch, FileExists
from storpool_agent.handlers import temporaries
from storpool_agent.host import Host
from storpool_agent.images.model import Image, Task
from storpool_agent.interrupt import Interrupt
from storpool_agent.storpool.model import Volume
from storpool_commands.disks import Mode
from storpool_commands.images import CopyOptions, ImageFormat, StoredImage

log = structlog.get_logger()

API_TIMEOUT_S = 60.0
COMPLETE = "complete"
"""The note that what was copied has been verified."""


class Verified(BaseModel):
    """What the note says."""

    model_config = ConfigDict(frozen=True)

    file: str | None = None
    """Store and path."""
    volume: str | None = None
    """The global id."""
    block_hash: str
    virtual_size_bytes: int
    copies: int


@contextmanager
def closed_after(*descriptors: int) -> Generator[None]:
    """Close them whatever happens: a device that is open cannot be detached."""
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _nobody(_done: int, _total: int | None) -> None:
    """The copy itself is reported, not what is done beside it."""


def file_length(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


@dataclass(frozen=True)
class Copy:
    """One job's copy."""

    options: CopyOptions
    host: Host
    attempt: Attempt

    def task(self, phase: str) -> Task:
        """How the tools are to run, and whom they tell."""
        return Task(
            self.attempt.interrupt,
            lambda done, total: self.attempt.report(phase, done, total),
            self.options.bandwidth_bytes_s,
            self.options.io_priority,
            self.options.stall_timeout_s,
        )

    def earlier(self) -> list[Verified]:
        """What earlier runs of this request have copied and verified."""
        return [Verified.model_validate_json(note) for note in self.attempt.notes(COMPLETE)]

    def earlier_volume(self) -> Verified | None:
        """A request fills one volume."""
        return next((note for note in self.earlier() if note.volume is not None), None)

    def run(
        self,
        source: Image,
        target: Image,
        size_bytes: int,
        *,
        expected: str | None = None,
        zeroed: bool = False,
        compress: bool = False,
    ) -> str:
        """Copy the disk, read both sides, and return the hash of the contents.

        The source is hashed while it is copied. Raises CopyMismatch, ChecksumMismatch when it is not the expected one.
        """
        images, attempt = self.host.images, self.attempt
        with self._beside(lambda task: images.block_hash(source, size_bytes, task)) as hashing:
            with attempt.step("copy"):
                images.convert(source, target, self.task("copy"), zeroed=zeroed, compress=compress)
            with attempt.step("verify"):
                arrived = images.block_hash(target, size_bytes, self.task("verify"))
                left = hashing.result()
                if not attempt.plans:
                    _refuse_difference(source, target, left, arrived, expected)
        return arrived

    @contextmanager
    def _beside(self, work: Callable[[Task], str]) -> Generator["Future[str]"]:
        """Have it done meanwhile; what fails here ends it."""
        outer = self.attempt.interrupt
        ended = Interrupt(outer.deadline)
        outer.tell(lambda: ended.set(outer.reason or InterruptedError()))
        task = replace(self.task("copy"), interrupt=ended, report=_nobody)
        with ThreadPoolExecutor(1, thread_name_prefix="hash") as thread:
            future = thread.submit(work, task)
            try:
                yield future
            except BaseException:
                ended.set(InterruptedError())
                raise
            finally:
                thread.shutdown()
                ended.close()

    def note(self, done: Verified) -> None:
        """From here on the copy is not made again."""
        self.attempt.interrupt.check()
        self.attempt.note(COMPLETE, done.model_dump_json())

    def acquire(self, store: str) -> None:
        """Have the store for as long as the job runs."""
        with self.attempt.step("store", changes=True):
            self.attempt.making(temporaries.STORE, store)
            self.host.secondary.acquire(store, self.attempt.request_id)

    def open_device(self, volume: Volume, mode: Mode, deadline: Deadline) -> Image:
        """Attached as long as the job uses it, and open."""
        device = temporaries.attach(volume, mode, self.host, self.attempt, deadline)
        return Image(self.host.devices.open(device, mode), "raw", device.link, device=True)


@dataclass(frozen=True)
class Stored:
    """A file that was written, verified, and given its name."""

    verified: Verified
    file_size_bytes: int
    made: str
    """The target of its FILE row: it is removed when the job ends, unless it is said to stay."""


def to_file(copy: Copy, source: Image, size_bytes: int, target: StoredImage, how: "FileFormat") -> Stored:
    """Copy an open disk to a file that is not there yet. The store has been acquired."""
    what = temporaries.pair(target.store, target.path)
    host, attempt = copy.host, copy.attempt
    earlier = next((note for note in copy.earlier() if note.file == what), None)
    if earlier is not None and (stored := _published(copy, target, how, earlier)) is not None:
        attempt.stays(temporaries.PART, what)
        return stored
    with attempt.step("begin", changes=True):
        attempt.making(temporaries.PART, what)
        part = host.secondary.create_part(target.store, target.path, attempt.request_id)
    image = Image(part.descriptor, how.format, f"{target.path} of {target.store}")
    block_hash = copy.run(source, image, size_bytes, compress=how.compress)
    done = Verified(file=what, block_hash=block_hash, virtual_size_bytes=size_bytes, copies=attempt.number)
    copy.note(done)
    made = temporaries.file_of(target.store, target.path, part.descriptor)
    with attempt.step("publish", changes=True, always=True):
        attempt.making(temporaries.FILE, made)
        length = host.secondary.publish(part)
        attempt.stays(temporaries.PART, what)
    return Stored(done, length, made)


@dataclass(frozen=True)
class FileFormat:
    """Of a file that is written."""

    format: ImageFormat
    compress: bool = False


def _published(copy: Copy, target: StoredImage, how: FileFormat, earlier: Verified) -> Stored | None:
    """The file, if an earlier run of this request has given it its name.

    Raises FileExists when the file there is another.
    """
    secondary = copy.host.secondary
    if not secondary.exists(target.store, target.path):
        return None
    take_other_name(copy, target)
    with copy.attempt.step("verify"):
        descriptor = secondary.open_image(target.store, target.path)
        with closed_after(descriptor):
            image = Image(descriptor, how.format, f"{target.path} of {target.store}")
            present = copy.host.images.block_hash(image, earlier.virtual_size_bytes, copy.task("verify"))
            stored = Stored(
                earlier, file_length(descriptor), temporaries.file_of(target.store, target.path, descriptor)
            )
    if present != earlier.block_hash:
        raise FileExists(
            f"{target.path} of {target.store} is there, and is not what this request had copied; choose another path",
            store=target.store,
            path=target.path,
        )
    return stored


def take_other_name(copy: Copy, target: StoredImage) -> None:
    """A run that died while it gave a file its name may have left it with both: such a file is refused as an image."""
    copy.host.secondary.discard_part(target.store, target.path, copy.attempt.request_id)


def _refuse_difference(source: Image, target: Image, left: str, arrived: str, expected: str | None) -> None:
    if left != arrived:
        raise CopyMismatch(
            f"{target.name} does not read back as {source.name} was read; nothing uses it, it is removed: send the "
            "command again, and if it happens again look at the storage on both sides",
            source=source.name,
            target=target.name,
            source_hash=left,
            target_hash=arrived,
        )
    if expected is not None and arrived != expected:
        raise ChecksumMismatch(
            f"the contents of {source.name} have the hash {arrived}, not the {expected} that the command says",
            source=source.name,
            found=arrived,
            expected=expected,
        )
