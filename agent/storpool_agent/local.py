# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The control queue's commands for who is on the host, over a Unix socket: no broker is needed for them.

One line of JSON, a ControlRequest, brings one line, its reply. Root may open the socket, and the agent's own user.
"""

import errno
import os
import socket
import stat
import struct
import threading
from functools import partial
from pathlib import Path

import structlog

from storpool_agent.control import CHANGING, Control
from storpool_agent.deadline import Deadline
from storpool_agent.lanes import Lane
from storpool_commands.envelope import MAX_BODY_BYTES, Failure, Success
from storpool_commands.errors import ErrorCode, retry_class
from storpool_commands.parse import InvalidRequest, parse_control_request

log = structlog.get_logger()

WORKERS = 4
"""So many are served at a time; others wait."""
ASK_S = 5.0
"""A client that has not sent its line by then never will."""
ANSWER_S = 60.0
"""A look at StorPool and libvirt gives up before."""
MAX_PATH = 107
"""Longest name of a Unix socket (unix(7))."""
MODE = 0o600
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class NotMade(Exception):
    """The socket cannot be made, or is not ours to replace."""


class LocalSocket:
    """Made, served and removed by the agent that has the state directory's lock."""

    def __init__(self, path: Path, host: str, control: Control) -> None:
        self._path = path
        self._host = host
        self._control = control
        self._listener: socket.socket | None = None
        self._lane = Lane("local", WORKERS)
        self._mutex = threading.Lock()
        self._waiting: set[threading.Event] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._accept, name="local")

    def open(self) -> None:
        """From now on who asks waits. A socket that cannot be made is told, and is no reason to serve no commands."""
        try:
            self._listener = _listen(self._path)
        except NotMade as error:
            log.error("local socket not made", path=str(self._path), reason=str(error))  # noqa: TRY400 - one line

    def start(self) -> None:
        """Answer, if there is a socket."""
        if self._listener is None:
            return
        self._lane.start()
        self._thread.start()

    def stop(self) -> None:
        """Who waits for an answer gets none."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.shutdown(socket.SHUT_RDWR)  # ends accept (Linux)
        self._thread.join()
        listener.close()
        self._path.unlink(missing_ok=True)
        with self._mutex:
            self._stopping = True
            for answered in self._waiting:
                answered.set()
        self._lane.drain()
        self._lane.join(Deadline.after(ASK_S))

    def _accept(self) -> None:
        while (listener := self._listener) is not None:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if error.errno != errno.EINVAL:  # that of a socket that was shut down
                    log.warning("local socket lost", path=str(self._path), reason=str(error))
                return
            self._lane.put(partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                reply = self._reply(connection)
                if reply is not None:
                    connection.settimeout(ASK_S)
                    connection.sendall(reply.model_dump_json(by_alias=True).encode() + b"\n")
            except OSError as error:  # it has gone away, and does not want to know any more
                log.debug("local client gone", reason=str(error))
            except Exception:
                log.exception("crashed")

    def _reply(self, connection: socket.socket) -> Success | Failure | None:
        """None when there is none in time. What is not read would have a refusal lost, so that comes first."""
        line = _line(connection)
        pid, uid = _peer(connection)
        if uid not in (0, os.geteuid()):
            log.warning("local client refused", uid=uid, pid=pid)
            return self._refused(InvalidRequest(ErrorCode.NOT_AUTHORIZED, f"user {uid} may not ask; root may"))
        try:
            request = parse_control_request(line)
        except InvalidRequest as problem:
            return self._refused(problem)
        publisher = f"uid {uid}"
        if isinstance(request.body, CHANGING):
            about = {"request": str(request.id), "command": request.body.command, "publisher": publisher}
            log.info("local request", audit=True, **about, pid=pid)
        replies: list[Success | Failure] = []
        answered = threading.Event()

        def say(reply: Success | Failure) -> None:
            replies.append(reply)
            answered.set()

        with self._mutex:
            self._waiting.add(answered)
            stopping = self._stopping
        if stopping:
            return None
        self._control.answer(request, say, publisher)
        answered.wait(ANSWER_S)
        with self._mutex:
            self._waiting.discard(answered)
        return replies[0] if replies else None

    def _refused(self, problem: InvalidRequest) -> Failure:
        return Failure(
            id=problem.request_id,
            host=self._host,
            code=problem.code,
            message=str(problem),
            retry=retry_class(problem.code),
            side_effects="none",
            facts=problem.facts,
        )


def _listen(path: Path) -> socket.socket:
    """Under another name first: who finds the socket finds one that listens, and with its mode."""
    if len(os.fsencode(path)) + len(".new") > MAX_PATH:
        raise NotMade(f"its name is longer than {MAX_PATH - len('.new')} bytes")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    fresh = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_directory(path.parent)
        _check_stale(path)
        fresh.unlink(missing_ok=True)
        listener.bind(str(fresh))
        fresh.chmod(MODE)
        listener.listen()
        fresh.replace(path)
    except OSError as error:
        listener.close()
        raise NotMade(error.strerror) from error
    except NotMade:
        listener.close()
        raise
    return listener


def _check_directory(directory: Path) -> None:
    """Nobody else may put a socket of theirs in its place."""
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotMade(f"others may write to {directory}; chmod 700 it, or set control_socket to another place")


def _check_stale(path: Path) -> None:
    """What a killed agent has left nobody listens to; a file that is no socket is not ours to replace."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise NotMade("something that is no socket is there; move it away")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:  # somebody listens, whose queue is full
            pass
    raise NotMade("another agent listens there; set control_socket to a path of this one's own")


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel has them (unix(7), SO_PEERCRED)."""
    pid, uid, _gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return pid, uid


def _line(connection: socket.socket) -> bytes:
    """Up to its end, or that of the connection."""
    deadline = Deadline.after(ASK_S)
    received = bytearray()
    while b"\n" not in received and len(received) <= MAX_BODY_BYTES:
        connection.settimeout(max(deadline.remaining_s, 0.001))
        chunk = connection.recv(1 << 16)
        if not chunk:
            break
        received += chunk
    return bytes(received).partition(b"\n")[0]
