# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Answers for a person: tables with colours on a terminal, the same columns as plain text elsewhere."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

Cell = str | tuple[str, str]
"""Text, or text and its style on a terminal."""

GOOD, BAD, WARNING, FAINT = "green", "red", "yellow", "dim"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def is_terminal() -> bool:
    """Somebody looks at stdout; a program gets what stays the same."""
    return sys.stdout.isatty()


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Names above the columns; nothing is cut off where no terminal is."""
    if is_terminal():
        _rich_table(columns, rows)
        return
    texts = [[column.upper() for column in columns], *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[number]) for row in texts) for number in range(len(columns))]
    for row in texts:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def facts(pairs: Sequence[tuple[str, Cell]]) -> None:
    """A name and what it is, a line each; a name that is empty goes on with the one above."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, cell in pairs:
        click.echo(f"{styled((name.ljust(width), FAINT))}  {styled(cell)}".rstrip())


def line(cell: Cell = "") -> None:
    """By itself."""
    click.echo(styled(cell))


def heading(text: str) -> None:
    """Above what belongs together."""
    click.echo(f"\n{styled((text, 'bold'))}")


def json_of(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Indented, so that people may read it too."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def styled(cell: Cell) -> str:
    """With colours, which click leaves away where no terminal is."""
    text, style = _text(cell), cell[1] if isinstance(cell, tuple) else ""
    if not style:
        return text
    return click.style(text, bold=style == "bold") if style in {"bold", "dim"} else click.style(text, fg=style)


def plain(text: str) -> str:
    """Without what could steer the terminal: names and messages come from elsewhere."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def sized(size_bytes: int) -> str:
    """`4.2 GiB`, `64 MiB`."""
    power = min(max(size_bytes.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{size_bytes / 1024**power:.1f} {_UNITS[power]}".replace(".0 ", " ")


def moment(at: datetime) -> str:
    """As this host's clock says it, and how long ago that is."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S} ({ago(at)})"


def when(at: datetime) -> str:
    """For a column: short for a person, the same everywhere for a program."""
    return ago(at) if is_terminal() else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def ago(at: datetime) -> str:
    """`3 min ago`."""
    return f"{lasting((datetime.now(UTC) - at).total_seconds())} ago"


def lasting(seconds: float) -> str:
    """`3 min`; one unit, as people say it."""
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{max(0, seconds):.0f} s"


def _text(cell: Cell) -> str:
    return plain(cell[0] if isinstance(cell, tuple) else cell)


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed where no terminal is
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(*columns, box=None, header_style="dim", pad_edge=False)
    for row in rows:
        shown.add_row(*(Text(_text(cell), style=cell[1] if isinstance(cell, tuple) else "") for cell in row))
    Console(highlight=False).print(shown)
