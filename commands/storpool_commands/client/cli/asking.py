# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Wait for a copy job at a terminal, where Ctrl-C asks what is meant by it."""

import os
import select
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar
from uuid import UUID

from rich.console import Console
from rich.text import Text

from storpool_commands.client.cli import render
from storpool_commands.client.cli.bar import Bar
from storpool_commands.client.client import ManagementClient
from storpool_commands.client.errors import CallError, CommandFailed
from storpool_commands.client.request import is_bulk
from storpool_commands.errors import ErrorCode
from storpool_commands.wire import CommandModel

T = TypeVar("T")


def can_ask(command: CommandModel[Any]) -> bool:
    """Whether an interrupt is worth a question: the command takes long, and there is somebody to answer."""
    return is_bulk(command) and somebody_answers()


def somebody_answers() -> bool:
    """A person sits at the terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def reply_of(waiting: "Future[T]", interrupted: Callable[[], None]) -> T:
    """Wait for what another thread waits for; `interrupted` is called at Ctrl-C, which only this thread sees.

    Raises what the call raises, and KeyboardInterrupt when `interrupted` does.
    """
    while True:
        try:
            return waiting.result()
        except KeyboardInterrupt:
            if not waiting.done():
                interrupted()


class Interruptions:
    """What Ctrl-C means for one request: the first one asks, one more leaves it running."""

    def __init__(self, client: ManagementClient, bar: Bar, console: Console, request_id: UUID, host: str) -> None:
        self._client = client
        self._bar = bar
        self._console = console
        self._request_id = request_id
        self._host = host
        self._cancelled = False

    def one(self) -> None:
        """Raises KeyboardInterrupt when the request is to be left running."""
        if self._cancelled:
            raise KeyboardInterrupt
        with self._bar.away():
            answer = self._answer()
        if answer == "d":
            raise KeyboardInterrupt
        if answer == "y":
            self._cancel()

    def _answer(self) -> str:
        question = f"Cancel request {self._request_id} on {self._host}? [y/N/d=detach]: "
        while True:
            self._console.print(Text(question), end="", soft_wrap=True)
            try:
                line = _line_typed()
            except KeyboardInterrupt:
                line = ""
            if not line:
                self._console.print()
                return "d"
            answer = line.strip().lower() or "n"
            if answer in {"y", "n", "d"}:
                return answer

    def _cancel(self) -> None:
        """Its own reply says how it ends, also when it could not be cancelled."""
        self._cancelled = True
        self._bar.cancelling()
        try:
            self._client.cancel(self._request_id, host=self._host)
        except CallError as error:
            if isinstance(error, CommandFailed) and error.code is ErrorCode.TOO_LATE:
                return
            self._cancelled = False
            self._console.print(Text(f"Not cancelled: {render.plain(str(error))}", style="red"), soft_wrap=True)


def _line_typed() -> str:
    """Empty at the end of the input. Raises KeyboardInterrupt.

    input() would miss a Ctrl-C that comes after Python's last look at signals and before its read.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        select.select([sys.stdin, reader], [], [])
        return os.read(sys.stdin.fileno(), 4096).decode(errors="replace")  # a terminal gives one line
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
