# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Foreign images: opened or downloaded, checked, unpacked and looked into, before anything is made for them."""

import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from storpool_agent.errors import ChecksumMismatch, CopyFailed, ImageTooLarge, SecondaryUnavailable
from storpool_agent.handlers.copying import Copy, closed_after, file_length
from storpool_agent.images.model import Image
from storpool_commands.images import ImageSource

SECTOR = 512


@dataclass(frozen=True)
class _Read:
    """A file that is read, as it was before that."""

    image: Image
    length: int
    modified_ns: int


@dataclass(frozen=True)
class Source:
    """An image that may be copied."""

    image: Image
    size_bytes: int
    """Of the disk in it."""
    files: Sequence[_Read] = ()

    def refuse_changed(self) -> None:
        """Whoever reads a file that is cut off meanwhile reads zeroes from a qcow2 (QEMU pads what is beyond its end),
        and the hash beside the copy reads the same: that both agree proves nothing then.

        Raises CopyFailed, SecondaryUnavailable.
        """
        for before in self.files:
            now = _read(before.image)
            if now != before:
                raise CopyFailed(
                    f"{before.image.name} was changed while it was copied: it had {before.length} bytes, and has "
                    f"{now.length} now; nothing was made of it. Send the command again when nobody writes to it",
                    file=before.image.name,
                )

    @property
    def volume_bytes(self) -> int:
        """What a volume needs: whole sectors."""
        return whole_sectors(self.size_bytes)


def whole_sectors(size_bytes: int) -> int:
    """As many bytes or some more: StorPool's sizes are in sectors of 512."""
    return -(-size_bytes // SECTOR) * SECTOR


@contextmanager
def opened(source: ImageSource, max_size_bytes: int | None, copy: Copy) -> Generator[Source]:
    """The image, as long as it is needed. Nothing has been made at StorPool by the time it is refused."""
    limit = min(max_size_bytes or copy.host.secondary.max_image_bytes, copy.host.secondary.max_image_bytes)
    with ExitStack() as files:
        image = _fetched(source, limit, copy, files) if source.url else _stored(source, copy, files)
        read = [_read(image)]
        if source.checksum is not None:
            _refuse_other(image, source.checksum, copy)
        if source.compression != "none":
            image = _unpacked(image, source, limit, copy, files)
            read.append(_read(image))
        size_bytes = _size(image, source, limit, copy)
        yield Source(replace(image, virtual_size_bytes=size_bytes), size_bytes, read)


def _read(image: Image) -> _Read:
    """Opened anew, so that an NFS client asks its server."""
    try:
        descriptor = os.open(f"/proc/self/fd/{image.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        with closed_after(descriptor):
            status = os.fstat(descriptor)
    except OSError as error:
        why = f"{image.name} cannot be read any more: {error.strerror}"
        raise SecondaryUnavailable(why, file=image.name) from error
    return _Read(image, status.st_size, status.st_mtime_ns)


def _stored(source: ImageSource, copy: Copy, files: ExitStack) -> Image:
    store, path = source.store or "", source.path or ""
    copy.acquire(store)
    with copy.attempt.step("open"):
        descriptor = copy.host.secondary.open_image(store, path)
    files.enter_context(closed_after(descriptor))
    return Image(descriptor, source.format, f"{path} of {store}")


def _fetched(source: ImageSource, limit: int, copy: Copy, files: ExitStack) -> Image:
    url = source.url or ""
    with copy.attempt.step("download"):
        descriptor = copy.host.secondary.scratch(copy.attempt.request_id)
        files.enter_context(closed_after(descriptor))
        copy.host.images.fetch(url, descriptor, copy.task("download"), max_bytes=limit)
    return Image(descriptor, source.format, without_query(url))


def without_query(url: str) -> str:
    """What may be shown of a URL: a query may be a signature, which lets anybody download."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _refuse_other(image: Image, expected: str, copy: Copy) -> None:
    algorithm = expected.partition(":")[0]
    with copy.attempt.step("checksum"):
        found = copy.host.images.checksum(image, algorithm, copy.task("checksum"))
        if found != expected and not copy.attempt.plans:
            raise ChecksumMismatch(
                f"{image.name} has the checksum {found}, not the {expected} that the command says; it is damaged, or "
                "another file by now",
                source=image.name,
                found=found,
                expected=expected,
            )


def _unpacked(image: Image, source: ImageSource, limit: int, copy: Copy, files: ExitStack) -> Image:
    """Each layer has the limit of the disk: a small file that becomes a large one fills no disk of this host."""
    with copy.attempt.step("unpack"):
        descriptor = copy.host.secondary.scratch(copy.attempt.request_id)
        files.enter_context(closed_after(descriptor))
        task = copy.task("unpack")
        copy.host.images.unpack(image, source.compression, descriptor, task, max_bytes=limit)
    return Image(descriptor, source.format, image.name)


def _size(image: Image, source: ImageSource, limit: int, copy: Copy) -> int:
    """A raw image whose contents have to have a hash may begin as it likes: they are bytes, whatever they look like."""
    with copy.attempt.step("inspect"):
        if source.format == "raw" and source.block_hash is not None:
            length = file_length(image.descriptor)
            if length > limit:
                raise ImageTooLarge(f"{image.name} has {length} bytes, the limit is {limit}", size_bytes=length)
            return length
        return copy.host.images.inspect(image, copy.task("inspect"), max_size_bytes=limit).virtual_size_bytes
