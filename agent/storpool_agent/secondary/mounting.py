# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The children that mount and unmount. The only module that does either."""

import os
import signal
import subprocess
from collections.abc import Sequence

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

OPTIONS = ",".join(
    (
        # Nothing that lies there is a program or a device of this host, whoever else can write to the export.
        "nosuid",
        "nodev",
        "noexec",
        # nfs(5): with `hard` (the default) every call waits for a lost server for ever, and so would the worker, the
        # agent's stop, and umount. `soft` fails the call with EIO instead, and a program that does not look at errors
        # loses data: here every write is flushed and read back before the file gets its name.
        "soft",
        # In tenths of a second; over TCP each wait is longer by as much (nfs(5)): 10 + 20 + 30 + 40 = 100 s. By then
        # most servers' failover is over, and it is within the 120 s after which a copy that does not move is given up.
        "timeo=100",
        "retrans=3",
        # nfs(5): otherwise mount.nfs tries for two minutes. The sender knows better whether to try again.
        "retry=0",
        # Mounts of one export share a superblock (nfs(5)), and with it the source that mountinfo shows: one that was
        # made before, by another name of the server, would make ours look like something else.
        "nosharecache",
        # Else a name that was not there is taken for missing up to a minute after another host has made it (nfs(5)).
        "lookupcache=positive",
    )
)
REQUIRED = frozenset({"nosuid", "nodev", "noexec"})
"""Of OPTIONS, those that mountinfo shows of the mount itself."""

MOUNT_TIMEOUT_S = 90.0  # a TCP connection to a host that is down: 63 s with tcp_syn_retries at its default of 5
UNMOUNT_TIMEOUT_S = 30.0
KILLED_TIMEOUT_S = 5.0  # SIGKILL also ends what waits for an NFS server; what it does not end is left behind
TEXT_CHARACTERS = 400
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class Refused(Exception):
    """mount(8) or umount(8) did not do it; the message is theirs, on one line."""


def mount(source: str, directory: str, timeout_s: float = MOUNT_TIMEOUT_S) -> None:
    """Mount an NFS export. Raises Refused."""
    _run(("mount", "-t", "nfs", "-o", OPTIONS, source, directory), timeout_s)


def unmount(directory: str) -> None:
    """Never by force, and never lazily: what is in use stays. Raises Refused."""
    _run(("umount", directory), UNMOUNT_TIMEOUT_S)


def _run(command: Sequence[str], timeout_s: float) -> None:
    """In a session of its own, so that helpers (mount.nfs) are ended with it."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        raise Refused(f"{command[0]}: {error.strerror}") from error
    try:
        said, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _end(child)
        raise Refused(f"{command[0]} did not come back within {timeout_s:g} s, and was ended") from None
    if child.returncode != 0:
        raise Refused(_one_line(said) or f"{command[0]} ended with status {child.returncode}")


def _end(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, signal.SIGKILL)
    try:
        child.communicate(timeout=KILLED_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log.warning("mount child stuck", pid=child.pid)


def _one_line(said: bytes) -> str:
    """A server's text is in it: what a terminal would obey is taken out."""
    text = said.decode(errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:TEXT_CHARACTERS]
