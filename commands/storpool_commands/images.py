# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Image files on secondary storage and on the web, as commands name them."""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from storpool_commands.wire import WireModel

ImageFormat = Literal["raw", "qcow2"]
Compression = Literal["none", "gzip", "bzip2", "xz"]
IoPriority = Literal["idle", "low", "normal"]

MAX_PART = 200
"""Longest part of a path. File systems take 255 bytes; a file that is being written has a longer name meanwhile."""
MAX_PORT = 65535

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])"
_SERVER = re.compile(_HOST)
_URL = re.compile(rf"https?://({_HOST})(?::([0-9]{{1,5}}))?/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{{2}})*")
_PART = re.compile(r"[A-Za-z0-9_.,:@+=~ -]+")
_DIGITS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_CHECKSUM = re.compile(r"([a-z0-9]+):([0-9a-f]+)")


def _check_path(path: str) -> None:
    """Raises ValueError, without repeating the path, for one that a tool or a person could take for another."""
    for part in path.split("/"):
        if not part:
            raise ValueError("a part of the path is empty: it begins or ends with a slash, or has two in a row")
        if len(part) > MAX_PART:
            raise ValueError(f"a part of the path is longer than {MAX_PART} characters")
        if not _PART.fullmatch(part):
            raise ValueError("the path has a character that is none of A-Z a-z 0-9 _ . , : @ + = ~ - and space")
        if part in {".", ".."} or part.startswith(("-", " ")) or part.endswith(" "):
            raise ValueError("a part of the path is `.` or `..`, begins with a dash, or begins or ends with a space")


def _is_host(text: str) -> bool:
    """A name, an IPv4 address, or an IPv6 address in brackets."""
    if not _SERVER.fullmatch(text) or len(text) > 253:
        return False
    if not text.startswith("["):
        return True
    try:
        IPv6Address(text[1:-1])
    except AddressValueError:
        return False
    return True


def _store(text: str) -> str:
    scheme, _, rest = text.partition("://")
    server, slash, directory = rest.partition("/")
    if scheme not in {"nfs", "file"} or not slash:
        raise ValueError("must be nfs://<server>/<exported directory> or file:///<directory>")
    if scheme == "nfs" and not _is_host(server):
        raise ValueError("the server is no host name or address; it has neither a user nor a port")
    if scheme == "file" and server:
        raise ValueError("file:// is followed by an absolute path")
    _check_path(directory)
    return text


def _relative(text: str) -> str:
    _check_path(text)
    return text


def _web(text: str) -> str:
    """Not by urllib.parse: it drops newlines, and what it lets pass is read in another way by other programs."""
    match = _URL.fullmatch(text)
    if match is None or not _is_host(match[1]):
        raise ValueError("must be http(s)://<host>[:<port>]/<path>, percent-encoded, without a user and a fragment")
    if match[2] is not None and not 1 <= int(match[2]) <= MAX_PORT:
        raise ValueError("the port is not from 1 to 65535")
    return text


def _checksum(text: str) -> str:
    match = _CHECKSUM.fullmatch(text)
    if match is None or _DIGITS.get(match[1]) != len(match[2]):
        raise ValueError(f"must be <algorithm>:<lower-case hex digits> with {', '.join(_DIGITS)}")
    return text


StoreUrl = Annotated[str, Field(max_length=1024), AfterValidator(_store)]
"""Secondary storage: `nfs://<server>/<exported directory>`, which the agent mounts while it needs it, or
`file:///<directory>`, a directory of the host that the agent's settings allow."""

StorePath = Annotated[str, Field(max_length=1024), AfterValidator(_relative)]
"""A file below a store's directory: no `..`, and no symbolic link is followed on the way."""

WebUrl = Annotated[str, Field(max_length=2048), AfterValidator(_web)]
"""Kept in the journal and the log of the host: no place for a secret."""

Checksum = Annotated[str, Field(max_length=140), AfterValidator(_checksum)]
"""Of a whole file: `sha256:<hex>`; also md5, sha1, sha224, sha384, sha512."""

BlockHash = Annotated[str, Field(pattern=r"^sha256-1m:[0-9a-f]{64}$")]
"""Of a disk's contents, whatever format and file it is kept in. The contents are cut into blocks of 1 MiB, the last
one may be shorter; the hash is the SHA-256 of the SHA-256 digests (32 bytes each) of all blocks in order."""


class StoredImage(WireModel):
    """An image file on secondary storage."""

    store: StoreUrl
    """`nfs://<server>/<exported directory>` or `file:///<directory>`."""
    path: StorePath
    """The file, below the store's directory."""


class ImageSource(WireModel):
    """Where an image is read from: a file of a store, or a URL."""

    store: StoreUrl | None = None
    """`nfs://<server>/<exported directory>` or `file:///<directory>`; with `path`."""
    path: StorePath | None = None
    """The file, below the store's directory."""
    url: WebUrl | None = None
    """`https://` or `http://`, instead of a file. It is kept in the journal and the log: no secret belongs in it."""
    format: ImageFormat
    """Said, never guessed: an image that turns out to be something else is refused."""
    compression: Compression = "none"
    """Of the file as a whole; a qcow2 that is compressed inside is read as it is."""
    checksum: Checksum | None = None
    """Of the file as it is stored or downloaded: `sha256:<hex>`, or md5, sha1, sha224, sha384, sha512. Needed for
    `http://`, which anybody on the way can change."""
    block_hash: BlockHash | None = None
    """Of the contents, as backupSnapshot and others return it: what comes out has to have it. With it a raw image may
    begin like an image of another format, as the disk of a guest may; without, that is refused."""

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
    """Write no faster than that, and read back no faster, from 1 MiB a second. Default: no limit."""
    io_priority: IoPriority = "low"
    """Of its reads and writes on this host (ionice): `idle` is served when nothing else wants the disk. A live
    migration is made by QEMU itself, at the machine's own priority."""
    stall_timeout_s: Annotated[float, Field(ge=1, le=86400)] = 120
    """Give up (`copy-stalled`) when not a byte has moved for so long. A copy that moves takes as long as it takes: give
    the request a `deadline` to end it."""
