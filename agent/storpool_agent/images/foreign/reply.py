# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How these children tell their progress and their result: in lines of JSON, to which images.delegation listens. And
what else they have in common.
"""

import errno
import json
import os
import resource
import sys
from collections.abc import Callable, Mapping
from time import monotonic, sleep
from typing import Any, Literal

Code = Literal[
    "copy-failed",
    "download-failed",
    "image-format-mismatch",
    "image-not-found",
    "image-refused",
    "image-too-large",
    "scratch-full",
    "secondary-not-allowed",
    "secondary-unavailable",
]
"""Those of the contract (ErrorCode) that such a child ends with."""

REPORT_INTERVAL_S = 0.2
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Refusal(Exception):
    """An expected failure. The message says what is wrong with the image or the server, without naming it."""

    def __init__(self, code: Code, message: str, /, **facts: str | int) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts


def run(work: Callable[[], Mapping[str, Any]]) -> None:
    """Do the work, and tell its result or why there is none; what it raises besides is a bug, and ends the child."""
    _be_warned_of_the_limit()
    try:
        say(result=work())
    except Refusal as refusal:
        say(refused=refusal.code, message=str(refusal), facts=refusal.facts)
    except MemoryError:
        say(refused="image-refused", message="it takes more memory than it may", facts={})
    except OSError as error:
        say(refused="copy-failed", message=os.strerror(error.errno or errno.EIO), facts={})


def say(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


class Progress:
    """Tells how far the work is, a few times a second."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self._next_at = 0.0

    def at(self, done: int, written: int | None = None) -> None:
        """`written`: bytes that have come out, when those are others than the ones that are counted."""
        now = monotonic()
        if now >= self._next_at:
            self._next_at = now + REPORT_INTERVAL_S
            say(done=done, total=self.total, written=written)


class Throttle:
    """Holds the work to so many bytes a second, on average since it began; None: no limit."""

    def __init__(self, bytes_s: int | None) -> None:
        self._bytes_s = bytes_s
        self._due_at = monotonic()

    def moved(self, count: int) -> None:
        if self._bytes_s is not None:
            self._due_at = max(self._due_at, monotonic() - 1.0) + count / self._bytes_s
            sleep(max(0.0, self._due_at - monotonic()))


def write(descriptor: int, data: bytes | bytearray, offset: int) -> None:
    """All of it. Raises Refusal (scratch-full)."""
    left = memoryview(data)
    try:
        while left:
            count = os.pwrite(descriptor, left, offset)
            left, offset = left[count:], offset + count
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Refusal(
            "scratch-full", f"no room after {offset} bytes: {os.strerror(error.errno)}", bytes_written=offset
        ) from error


def _be_warned_of_the_limit() -> None:
    """At the hard limit of CPU time the kernel sends SIGKILL, which may be anybody's; at the soft one SIGXCPU."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_CPU, (max(1, hard - 1), hard))
