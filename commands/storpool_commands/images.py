# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Image files on secondary storage and on the web, as commands name them."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from storpool_commands.wire import WireModel

ImageFormat = Literal["raw", "qcow2"]
Compression = Literal["none", "gzip", "bzip2", "xz"]
IoPriority = Literal["idle", "low", "normal"]

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])")
_COMPONENT = re.compile(r"[A-Za-z0-9_.,:@+=~ -]{1,255}")
_CHECKSUM_DIGITS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_CHECKSUM = re.compile(r"(?:[a-z0-9]+):[0-9a-f]+")


def _path_problem(path: str) -> str | None:
    """Why a path with its slashes at the right places cannot be used; the message does not repeat it."""
    parts = path.split("/")
    if not all(_COMPONENT.fullmatch(part) for part in parts):
        return "a part of the path is empty, too long, or has a character that is not allowed"
    if any(part in {".", ".."} or part.startswith("-") for part in parts):
        return "a part of the path is `.` or `..`, or begins with a dash"
    return None


def _store(text: str) -> str:
    """`nfs://server/export` or `file:///directory`, and nothing else in it."""
    scheme, _, rest = text.partition("://")
    server, slash, path = rest.partition("/")
    if scheme not in {"nfs", "file"} or not slash:
        raise ValueError("must be nfs://<server>/<exported directory> or file:///<directory>")
    if scheme == "nfs" and not _HOST.fullmatch(server):
        raise ValueError("the server is no host name or address, without a user and a port")
    if scheme == "file" and server:
        raise ValueError("file:// is followed by an absolute path")
    problem = _path_problem(path)
    if problem:
        raise ValueError(problem)
    return text


def _relative(text: str) -> str:
    problem = _path_problem(text)
    if problem:
        raise ValueError(problem)
    return text


def _web(text: str) -> str:
    """`http://` or `https://` without a user, and without what would need encoding."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        raise ValueError("no URL") from None
    if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.password or url.fragment:
        raise ValueError("must be http(s)://<host>[:port]/<path>, without a user and a fragment")
    return text


def _checksum(text: str) -> str:
    algorithm, _, digits = text.partition(":")
    if not _CHECKSUM.fullmatch(text) or _CHECKSUM_DIGITS.get(algorithm) != len(digits):
        raise ValueError(f"must be <algorithm>:<lower-case hex digits> with {', '.join(_CHECKSUM_DIGITS)}")
    return text


StoreUrl = Annotated[str, Field(max_length=1024), AfterValidator(_store)]
"""Secondary storage: `nfs://<server>/<exported directory>`, which the agent mounts while it needs it, or
`file:///<directory>`, a directory of the host that the agent's settings allow."""

StorePath = Annotated[str, Field(max_length=1024), AfterValidator(_relative)]
"""A file below a store's directory: no `..`, and no symbolic link is followed on the way."""

WebUrl = Annotated[str, Field(max_length=2048, pattern=r"^[!-~]+$"), AfterValidator(_web)]

Checksum = Annotated[str, Field(max_length=140), AfterValidator(_checksum)]
"""Of a whole file: `sha256:<hex>`; also md5, sha1, sha224, sha384, sha512."""

BlockHash = Annotated[str, Field(pattern=r"^sha256-4m:[0-9a-f]{64}$")]
"""Of a disk's contents, whatever format and file it is kept in. The contents are cut into blocks of 4 MiB, the last
one may be shorter; the hash is the SHA-256 of the SHA-256 digests (32 bytes each) of all blocks in order."""


class StoredImage(WireModel):
    """An image file on secondary storage."""

    store: StoreUrl
    path: StorePath


class ImageSource(WireModel):
    """Where an image is read from: a file of a store, or a URL."""

    store: StoreUrl | None = None
    path: StorePath | None = None
    url: WebUrl | None = None
    format: ImageFormat
    """Said, never guessed: an image that turns out to be something else is refused."""
    compression: Compression = "none"
    """Of the file as a whole; a qcow2 that is compressed inside is read as it is."""
    checksum: Checksum | None = None
    """Of the file as it is stored or downloaded. Needed for `http://`, which anybody on the way can change."""
    block_hash: BlockHash | None = None
    """Of the contents, as backupSnapshot and others return it: what comes out has to have it. A raw image with it may
    begin as it likes: a backup of a guest's disk does."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.store is None) or (self.store is None) != (self.path is None):
            raise ValueError("give store and path, or url")
        if self.url is not None and self.url.startswith("http://") and self.checksum is None:
            raise ValueError("an http:// url needs a checksum")
        return self


class CopyOptions(WireModel):
    """How a copy is made. Each of these commands runs on the host's bulk lane, and can be cancelled."""

    bandwidth_bytes_s: Annotated[int, Field(ge=1 << 20, le=1 << 40)] | None = None
    """Write no faster than that, in bytes a second. Default: no limit."""
    io_priority: IoPriority = "low"
    """Of its reads and writes on this host (ionice): `idle` is served when nothing else wants the disk."""
    stall_timeout_s: Annotated[float, Field(ge=1, le=86400)] = 120
    """Give up when not a byte has moved for so long. However long a copy takes that moves, it is not stopped: give the
    request a `deadline` for that."""

