# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Reading the disk in a qcow2: from a qemu-nbd of our own, which is alone with us in a network namespace.

As much of NBD as that takes (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md): fixed newstyle
negotiation, structured replies, and block status in the context base:allocation.
"""

import mmap
import socket
import struct

from storpool_agent.images.worker.files import CannotRead

IHAVEOPT = 0x49484156454F5054
OPTION_REPLY = 0x3E889045565A9
REQUEST, STRUCTURED_REPLY = 0x25609513, 0x668E33EF
FIXED_NEWSTYLE_NO_ZEROES = 3
OPT_GO, OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT = 7, 8, 10
REP_ACK, REP_INFO, REP_META_CONTEXT = 1, 3, 4
INFO_EXPORT = 0
CMD_READ, CMD_BLOCK_STATUS = 0, 7
CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS, CHUNK_ERROR = 0, 1, 2, 5, 1 << 15
CHUNK_DONE = 1
STATE_ZERO = 2
ASKED_BYTES = 1 << 30
"""Of one question for the block status."""
CONTEXT = b"base:allocation"


class Connection:
    """To one export, without a name. For one thread."""

    def __init__(self, address: bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(address)
        self.size_bytes = 0
        self._negotiate()

    def read(self, buffer: mmap.mmap, offset: int, length: int) -> None:
        """Fill the beginning of the buffer."""
        self._send(CMD_READ, offset, length)
        with memoryview(buffer) as view:
            done = False
            while not done:
                done, kind, size = self._chunk(offset)
                if kind == CHUNK_DATA:
                    (at,) = struct.unpack(">Q", self._receive(8))
                    self._receive_into(view[at - offset : at - offset + size - 8])
                elif kind == CHUNK_HOLE:
                    at, hole = struct.unpack(">QI", self._receive(12))
                    view[at - offset : at - offset + hole] = bytes(hole)
                elif kind != CHUNK_NONE:
                    raise CannotRead(offset, f"unexpected answer {kind} of qemu-nbd")

    def extents(self, offset: int) -> list[tuple[int, bool]]:
        """From there on: lengths, and whether they are zeroes. At least one."""
        self._send(CMD_BLOCK_STATUS, offset, min(ASKED_BYTES, self.size_bytes - offset))
        found: list[tuple[int, bool]] = []
        done = False
        while not done:
            done, kind, size = self._chunk(offset)
            if kind == CHUNK_STATUS:
                body = self._receive(size)[4:]
                found += [(length, bool(state & STATE_ZERO)) for length, state in struct.iter_unpack(">II", body)]
        return found

    def _negotiate(self) -> None:
        self._receive(18)  # NBDMAGIC, IHAVEOPT, flags
        self._socket.sendall(struct.pack(">I", FIXED_NEWSTYLE_NO_ZEROES))
        self._option(OPT_STRUCTURED_REPLY, b"")
        self._option(OPT_SET_META_CONTEXT, struct.pack(">III", 0, 1, len(CONTEXT)) + CONTEXT)
        for kind, body in self._option(OPT_GO, struct.pack(">IH", 0, 0)):
            if kind == REP_INFO and struct.unpack(">H", body[:2])[0] == INFO_EXPORT:
                (self.size_bytes,) = struct.unpack(">Q", body[2:10])

    def _option(self, option: int, data: bytes) -> list[tuple[int, bytes]]:
        self._socket.sendall(struct.pack(">QII", IHAVEOPT, option, len(data)) + data)
        replies: list[tuple[int, bytes]] = []
        while True:
            magic, _, kind, size = struct.unpack(">QIII", self._receive(20))
            body = self._receive(size)
            if magic != OPTION_REPLY or kind not in {REP_ACK, REP_INFO, REP_META_CONTEXT}:
                raise CannotRead(0, f"qemu-nbd refuses option {option} with {kind:#x}")
            if kind == REP_ACK:
                return replies
            replies.append((kind, body))

    def _send(self, command: int, offset: int, length: int) -> None:
        self._socket.sendall(struct.pack(">IHHQQI", REQUEST, 0, command, offset, offset, length))

    def _chunk(self, offset: int) -> tuple[bool, int, int]:
        """Whether it is the last, its kind, and the length of what follows."""
        magic, flags, kind, _, size = struct.unpack(">IHHQI", self._receive(20))
        if magic != STRUCTURED_REPLY:
            raise CannotRead(offset, "qemu-nbd does not answer in structured replies")
        if kind & CHUNK_ERROR:
            number, length = struct.unpack(">IH", self._receive(6))
            text = self._receive(size - 6)[:length].decode("utf-8", "replace")
            raise CannotRead(offset, f"{_ERRORS.get(number, f'NBD error {number}')} ({text})")
        return bool(flags & CHUNK_DONE), kind, size

    def _receive(self, size: int) -> bytes:
        data = bytearray(size)
        self._receive_into(memoryview(data))
        return bytes(data)

    def _receive_into(self, view: memoryview) -> None:
        while view:
            got = self._socket.recv_into(view)
            if not got:
                raise CannotRead(0, "qemu-nbd has ended")
            view = view[got:]


_ERRORS = {1: "Operation not permitted", 5: "Input/output error", 12: "Cannot allocate memory", 22: "Invalid argument"}
