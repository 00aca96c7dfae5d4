# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A crash or a hang where a test asks for one. Without these variables in the environment nothing of it is done.

`STORPOOL_AGENT_CRASH_AT=attachDisk/plug:done` kills the process, as SIGKILL does, when the command `attachDisk` has
done its step `plug`. The points are `<command>/<step>:begin`, `<command>/<step>:done`, and the steps of the journal:
`<command>/accepted`, `<command>/started`, `<command>/noted`, `<command>/finished`, and `reply/confirmed`.

`STORPOOL_AGENT_HANG_FILE=<path>` makes the loop whose name is in that file hang, for as long as it is there.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from time import sleep

_POINT = os.environ.get("STORPOOL_AGENT_CRASH_AT")
_HANG_FILE = os.environ.get("STORPOOL_AGENT_HANG_FILE")
_LOOK_AGAIN_S = 0.02


def crash_point(name: str) -> None:
    """Die here if this is the point."""
    if name == _POINT:
        os.kill(os.getpid(), signal.SIGKILL)


def hang_point(loop: str) -> None:
    """Stay here as long as this is the loop that is to hang."""
    while _HANG_FILE and _named(Path(_HANG_FILE)) == loop:
        sleep(_LOOK_AGAIN_S)


def _named(file: Path) -> str | None:
    with suppress(OSError):
        return file.read_text(encoding="utf-8")
    return None
