# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A child that downloads a file: `downloader JOB TARGET`, two descriptors.

The job comes in a file without a name, because everybody on the host can read a process's arguments, and a URL may
carry a signature.
"""

import json
import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import sleep
from typing import Any

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from storpool_agent.images.foreign import reply
from storpool_agent.images.foreign.addresses import Allowed
from storpool_agent.images.foreign.reply import Progress, Refusal, Throttle, write
from storpool_agent.images.foreign.web import Broken, Web, reason, shown

TRIES = 5
FORGIVEN_BYTES = 16 << 20
"""As many new bytes make up for the tries so far: a large file may come over a line that breaks now and then."""
LONGEST_PAUSE_S = 8.0
CHUNK_BYTES = 64 * 1024
"""Of a chunked answer, which is waited for until so much is there; of others what has come is taken."""
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Job:
    url: str
    allowed_hosts: list[str]
    max_bytes: int
    bytes_s: int | None
    read_timeout_s: float
    pause_s: float
    """Before the second try; twice as long before each further one."""
    authorities: str | None
    """A file of certificates; None: the system's."""


class Download:
    """The target, and what is known of the file on the server."""

    def __init__(self, job: Job, target: int, web: Web) -> None:
        self._job, self._target, self._web = job, target, web
        self._throttle, self._progress = Throttle(job.bytes_s), Progress(None)
        self._validator: str | None = None
        self._total: int | None = None
        self._have = 0
        self.most = 0
        """Bytes that were there at the best of times: fewer are now when a server had to begin again."""

    def attempt(self) -> int:
        """Get what is missing; the length of the file. Raises Broken and Refusal."""
        resume = self._have > 0 and self._validator is not None
        headers = {"Range": f"bytes={self._have}-", "If-Range": self._validator or ""} if resume else {}
        response = self._web.get(self._job.url, headers)
        try:
            self._understand(response, resume=resume)
            for data in _pieces(response):
                self._take(data)
        except HTTPError as error:
            raise Broken(f"the connection broke after {self._have} bytes: {reason(error)}") from error
        finally:
            response.close()
        if self._total is not None and self._have != self._total:
            raise Broken(f"{self._have} bytes of {self._total} came")
        return self._have

    def _understand(self, response: BaseHTTPResponse, *, resume: bool) -> None:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding != "identity":
            raise self._useless(f"the server sends the file encoded ({encoding}), though asked not to")
        if response.status == 200:
            self._begin(response)
        elif not resume:
            raise self._useless(f"the server answers with status {response.status}, though asked for the whole file")
        elif not self._continues(response):
            self._validator = None
            raise Broken("the server does not go on where the file broke off", response.status)

    def _begin(self, response: BaseHTTPResponse) -> None:
        os.ftruncate(self._target, 0)
        self._have, self._total, self._validator = 0, _length(response), _validator(response)
        if self._total is None and not response.chunked:
            raise self._useless("the server does not say how long the file is: a part of it would pass for the whole")
        self._progress.total = self._total
        if self._total is not None:
            self._check_room(self._total)

    def _continues(self, response: BaseHTTPResponse) -> bool:
        """Whether it is the rest of the same file."""
        unit, _, content_range = response.headers.get("Content-Range", "").partition(" ")
        extent, _, total = content_range.partition("/")
        if response.status != 206 or unit != "bytes" or extent.partition("-")[0] != str(self._have):
            return False
        if not total.isdecimal() or self._total not in {None, int(total)}:
            return False
        self._total = self._progress.total = int(total)
        self._check_room(self._total)
        return _validator(response) in {None, self._validator}

    def _check_room(self, total: int) -> None:
        if total > self._job.max_bytes:
            raise self._too_large(f"the file has {total} bytes")
        room = os.fstatvfs(self._target)
        if total - self._have > room.f_bavail * room.f_frsize:
            raise Refusal(
                "scratch-full",
                f"the file has {total} bytes, and there is room for {room.f_bavail * room.f_frsize}",
                needed_bytes=total,
                free_bytes=room.f_bavail * room.f_frsize,
            )

    def _take(self, data: bytes) -> None:
        if self._have + len(data) > self._job.max_bytes:
            raise self._too_large("the file has more")
        write(self._target, data, self._have)
        self._have += len(data)
        self.most = max(self.most, self._have)
        self._progress.at(self.most)
        self._throttle.moved(len(data))

    def _too_large(self, fact: str) -> Refusal:
        return Refusal(
            "image-too-large",
            f"{fact}, and no more than {self._job.max_bytes} bytes are allowed",
            max_size_bytes=self._job.max_bytes,
        )

    def _useless(self, message: str) -> Refusal:
        return Refusal("download-failed", message, url=shown(self._job.url))


def fetch(job: Job, target: int) -> Mapping[str, int]:
    """Raises Refusal. The agent's policies of trying again need tenacity and its logs, which a child does without."""
    context = ssl.create_default_context(cafile=job.authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    download = Download(job, target, Web(Allowed(job.allowed_hosts), context, job.read_timeout_s))
    tries, forgiven_at = 0, 0
    while True:
        try:
            return {"bytes": download.attempt()}
        except Broken as broken:
            if download.most - forgiven_at >= FORGIVEN_BYTES:
                tries, forgiven_at = 0, download.most
            tries += 1
            if tries >= TRIES:
                status = {} if broken.status is None else {"status": broken.status}
                raise Refusal(
                    "download-failed",
                    f"gave up after {tries} tries: {broken}",
                    url=shown(job.url),
                    bytes_done=download.most,
                    **status,
                ) from broken
        sleep(min(job.pause_s * 2 ** (tries - 1), LONGEST_PAUSE_S))


def _pieces(response: BaseHTTPResponse) -> Iterator[bytes]:
    if response.chunked:
        yield from response.read_chunked(CHUNK_BYTES, decode_content=False)
        return
    while data := response.read1(READ_BYTES, decode_content=False):
        yield data


def _length(response: BaseHTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and not response.chunked else None


def _validator(response: BaseHTTPResponse) -> str | None:
    """By which the server will know whether it is still the same file: RFC 9110, 13.1.5, takes no weak ETag."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _job(descriptor: int) -> Job:
    values: dict[str, Any] = json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    return Job(**values)


if __name__ == "__main__":
    reply.run(lambda: fetch(_job(int(sys.argv[1])), int(sys.argv[2])))
