# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Asking the running agent: one line to its socket, one line back."""

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from storpool_commands.wire import AnswerModel, CommandModel

R = TypeVar("R", bound=AnswerModel)

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

ALIVE_S = 5.0
"""An agent that has not answered a ping by then is stopped, or hangs."""
ANSWER_S = 60.0
"""It looks at StorPool and libvirt for half of that at most."""


class AgentDown(Exception):
    """Nobody listens."""


class AgentSilent(Exception):
    """Somebody listens, and does not answer."""

    def __init__(self, why: str, pid: int | None) -> None:
        super().__init__(why)
        self.pid = pid


class NotAllowed(Exception):
    """The socket is for others."""


class Refused(Exception):
    """The agent has answered that it will not, or cannot."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def ask(path: Path, command: CommandModel[R], answer: type[R]) -> R:
    """Raises AgentDown, AgentSilent, NotAllowed, Refused. A ping goes first: who is silent is known soon."""
    _exchange(path, {"command": "ping"}, ALIVE_S)
    return answered(_exchange(path, command.model_dump(mode="json", by_alias=True), ANSWER_S), answer)


def answered(reply: dict[str, Any], answer: type[R]) -> R:
    """The result in a reply. Raises Refused."""
    if reply["status"] != "success":
        raise Refused(reply["code"], reply["message"])
    return answer.model_validate_json(json.dumps(reply["result"]))


def _exchange(path: Path, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    request = {"id": str(uuid4()), "protocol": 1, "body": body}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        pid = None
        try:
            connection.connect(str(path))
            pid = _listener(connection)
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = _line(connection)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise AgentDown(str(path)) from error
        except PermissionError as error:
            raise NotAllowed(f"{path} is for root alone; ask as root") from error
        except OSError as error:  # a timeout, or a queue that is full because nobody takes from it
            raise AgentSilent(f"no answer within {timeout_s:.0f} s", pid) from error
    if not line:
        raise AgentSilent("it has closed the connection without an answer", pid)
    reply: dict[str, Any] = json.loads(line)
    return reply


def _listener(connection: socket.socket) -> int:
    """The process that listens (unix(7), SO_PEERCRED). Raises NotAllowed for one whose word is worth nothing."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(credentials)
    if uid not in (0, os.geteuid()):
        raise NotAllowed(f"user {uid} listens there (pid {pid}), and not the agent")
    return int(pid)


def _line(connection: socket.socket) -> bytes:
    received = bytearray()
    while chunk := connection.recv(1 << 16):
        received += chunk
        if chunk.endswith(b"\n"):
            break
    return bytes(received)
