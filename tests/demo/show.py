# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Sets the stage, has the story told, clears away; also after Ctrl-C and after a failure."""

import secrets
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from demo import report
from demo.interrupts import Interrupts
from demo.stage import Stage, stage
from demo.story import tell

PIPE_WIDTH = 124
"""Of output that is no terminal, such as CI's log: wide enough that no cell of the table breaks."""


def show(interrupts: Interrupts) -> int:
    """The exit status. Raises KeyboardInterrupt."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    name = secrets.token_hex(3)
    report.opening(console, name)
    try:
        with stage(name) as set_up, _explained(console, set_up):
            tell(set_up, console, interrupts)
            with interrupts.allowed():
                report.agent_log(console, set_up)
                report.one_exchange(console, set_up)
    except Exception as error:  # noqa: BLE001 - whatever it is, this is where it is told
        traceback.print_exc()
        console.print("[red]the demo failed:[/]", escape(f"{type(error).__name__}: {error}"))
        return 1
    with interrupts.allowed():
        report.where_next(console)
    return 0


@contextmanager
def _explained(console: Console, set_up: Stage) -> Iterator[None]:
    """On failure the agent's log goes to the reader before it goes away."""
    try:
        yield
    except Exception:
        report.agent_log(console, set_up)
        raise
