# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A qemu-nbd for one image, and what it serves.

It gets its listening socket as systemd gives one (LISTEN_FDS), with an address that the kernel chose (autobind): no
file is made for it that could be left over, and only processes of this network namespace could connect.
"""

import ctypes
import fcntl
import os
import signal
import socket

from storpool_agent.images.worker.nbd import Connection

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h; it outlives exec
FIRST_LISTEN_FD = 3
IMAGE_FD_FROM = 10
"""The image is given a number that does not get into the socket's way."""


class Served:
    """Read by several threads, each with a `reader` of its own; `next_data` is for one at a time."""

    def __init__(self, descriptor: int, node: str, key: str, *, direct: bool, connections: int) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind("")
            listening.listen(connections + 1)
            address = listening.getsockname()
            _serve(listening, descriptor, node, key, direct=direct, connections=connections + 1)
        self._address = address
        self._status = Connection(address)
        self.size_bytes = self._status.size_bytes
        self._known: list[tuple[int, int, bool]] = []

    def reader(self) -> Connection:
        return Connection(self._address)

    def next_data(self, offset: int) -> int:
        """Where the next byte is that may not be zero. Offsets only grow."""
        while offset < self.size_bytes:
            for begin, end, zero in self._known:
                if begin <= offset < end:
                    if not zero:
                        return offset
                    offset = end
            if offset < self.size_bytes:
                self._learn(offset)
        return self.size_bytes

    def _learn(self, offset: int) -> None:
        self._known = []
        for length, zero in self._status.extents(offset):
            self._known.append((offset, offset + length, zero))
            offset += length


def _serve(listening: socket.socket, descriptor: int, node: str, key: str, *, direct: bool, connections: int) -> None:
    """Until this program ends. There is one thread yet, so a fork is safe; LISTEN_PID has to be known before exec."""
    image = fcntl.fcntl(descriptor, fcntl.F_DUPFD, IMAGE_FD_FROM)
    secret = fcntl.fcntl(int(key), fcntl.F_DUPFD, IMAGE_FD_FROM) if key else None
    handed = fcntl.fcntl(listening.fileno(), fcntl.F_DUPFD, IMAGE_FD_FROM)
    argv = (
        *("qemu-nbd", "--read-only", "--persistent", f"--shared={connections}"),
        *(() if secret is None else ("--object", f"secret,id=key,format=raw,file=/proc/self/fd/{secret}")),
        *(f"--cache={'none' if direct else 'writeback'}", node.replace(f'/fd/{descriptor}"', f'/fd/{image}"')),
    )
    program = os.getpid()
    if os.fork() == 0:
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
            if os.getppid() == program:  # else it died before, and nobody would ever end what is to serve until then
                os.dup2(handed, FIRST_LISTEN_FD, inheritable=True)
                os.execvpe(argv[0], argv, {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})  # noqa: S606
        finally:
            os._exit(127)
    for passed_on in (image, handed, secret):
        if passed_on is not None:
            os.close(passed_on)
