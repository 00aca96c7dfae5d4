# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How far a command is, on stderr: a bar on a terminal, elsewhere a line now and then."""

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Display
from rich.text import Text

from storpool_commands.client.cli import render
from storpool_commands.control import JobProgress
from storpool_commands.envelope import Accepted, Progress

LINE_EVERY_S = 10.0
BAR_WIDTH = 16


class Bar:
    """A bar that is drawn over. Disabled it shows nothing."""

    def __init__(self, console: Console, *, disabled: bool) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(BAR_WIDTH), _Facts())
        self._display = Display(*columns, TimeElapsedColumn(), console=console, transient=True, disable=disabled)
        self._task = self._display.add_task("sent", total=None, facts=Text())
        self._cancelling = False

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    @contextmanager
    def away(self) -> Generator[None]:
        """Leave the terminal to somebody else meanwhile."""
        self._display.stop()
        yield
        self._display.start()

    def cancelling(self) -> None:
        """Say so from now on, whatever the host still does."""
        self._cancelling = True
        self._display.update(self._task, description="cancelling")

    def phase(self, phase: str) -> None:
        """What is done now, of something that takes several requests. Any thread may call it."""
        if not self._cancelling:
            said = render.plain(phase).replace("[", r"\[")
            self._display.update(self._task, description=said, total=None, facts=Text())

    def show(self, sign: Accepted | Progress) -> None:
        """Any thread may call it."""
        phase = sign.phase if isinstance(sign, Progress) else "accepted"
        if not self._cancelling:
            self._display.update(self._task, description=render.plain(phase).replace("[", r"\["))
        if isinstance(sign, Progress):
            done, total = sign.bytes_done or 0, sign.bytes_total
            self._display.update(self._task, completed=done, total=total, facts=facts(sign))


class Lines:
    """A line when the phase has changed, and every ten seconds."""

    def __init__(self, console: Console, clock: Callable[[], float] = monotonic) -> None:
        self._console = console
        self._clock = clock
        self._phase = ""
        self._due_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def phase(self, phase: str) -> None:
        """What is done now, of something that takes several requests."""
        self._console.print(Text(render.plain(phase)), soft_wrap=True)

    def show(self, sign: Accepted | Progress) -> None:
        if not isinstance(sign, Progress) or (sign.phase == self._phase and self._clock() < self._due_at):
            return
        self._phase, self._due_at = sign.phase, self._clock() + LINE_EVERY_S
        said = facts(sign)
        line = Text.assemble(render.plain(sign.phase), ": " if said else "", said)
        self._console.print(line, soft_wrap=True)


def display(console: Console, *, quiet: bool, json: bool) -> Bar | Lines:
    """What suits stderr. JSON on a terminal is for a person who wants to see how far it is."""
    if sys.stderr.isatty() or quiet or json:
        return Bar(console, disabled=quiet or not sys.stderr.isatty())
    return Lines(console)


def facts(progress: JobProgress) -> Text:
    """`42 %, 4.2 GiB of 10 GiB, 105 MiB/s, 55 s left`; while it is stalled that instead of rate and rest."""
    said = [Text(each) for each in _amounts(progress)]
    if progress.stalled_s is not None:
        said.append(Text(f"stalled {_lasting(progress.stalled_s)}", style="yellow"))
    else:
        if progress.rate_bytes_s is not None:
            said.append(Text(f"{render.sized(progress.rate_bytes_s)}/s"))
        if progress.eta_s is not None:
            said.append(Text(f"{_lasting(progress.eta_s)} left"))
    return Text(", ").join(said)


def _amounts(progress: JobProgress) -> Iterator[str]:
    done, total = progress.bytes_done, progress.bytes_total
    if done is None:
        return
    if total:
        yield f"{min(100, 100 * done // total)} %"
    yield render.sized(done) + (f" of {render.sized(total)}" if total else "")


def _lasting(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class _Facts(ProgressColumn):
    def render(self, task: Task) -> Text:
        said: Text = task.fields["facts"]
        return said
