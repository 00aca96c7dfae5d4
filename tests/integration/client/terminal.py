# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""storpool-ctl at a terminal, with an operator at its keys."""

import os
import re
import select
import subprocess
import sys
import termios
from time import monotonic
from typing import Self

PROGRAM = [sys.executable, "-c", "from storpool_commands.client.cli import main; main()"]
TIMEOUT_S = 30.0
CTRL_C = "\x03"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_SIZE = (40, 140)


class Terminal:
    """A pseudo terminal that is the program's own: its keys reach the program as signals, too."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = os.openpty()
        termios.tcsetwinsize(slave, _SIZE)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *PROGRAM, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(slave)
        self.written = ""
        """All that has come, with what steers the terminal."""
        self._looked_at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, text: str) -> str:
        """What is shown from where the last look has ended until this, in plain characters."""
        give_up_at = monotonic() + TIMEOUT_S
        while text not in (shown := _CONTROL.sub("", self.written[self._looked_at :])):
            assert self._read(give_up_at), f"{text!r} has not come: {shown!r}"
        self._looked_at = len(self.written)
        return shown

    def end(self) -> int:
        """The exit status."""
        give_up_at = monotonic() + TIMEOUT_S
        while self._read(give_up_at):
            pass
        return self._process.wait(TIMEOUT_S)

    @property
    def shown(self) -> str:
        """All of it, in plain characters."""
        return _CONTROL.sub("", self.written)

    def _read(self, give_up_at: float) -> bool:
        """False when nothing came in time, and at the end."""
        if not select.select([self._master], [], [], max(0.0, give_up_at - monotonic()))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other side open
            return False
        self.written += data.decode(errors="replace")
        return bool(data)
