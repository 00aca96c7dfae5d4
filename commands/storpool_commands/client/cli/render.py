# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Replies for a person, on a terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from storpool_commands.envelope import Event, Failure, Step, Success
from storpool_commands.errors import Retry

ADVICE: dict[Retry, str] = {
    "final": "The same command fails again, until somebody changes something.",
    "retryable": "It may succeed later: send it again.",
    "uncertain": "The outcome is not known: look (get-physical-disk) before you decide.",
}
_STATUS_STYLE = {"failed": "red", "undone": "yellow", "planned": "cyan"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def success(console: Console, reply: Success) -> None:
    """The result, then the steps."""
    console.print(_record(reply.result, skip="command"))
    _steps(console, reply.steps)
    console.print(f"done in {reply.took_ms:.0f} ms", style="green")


def record(console: Console, what: BaseModel) -> None:
    """Its fields, one a line."""
    console.print(_record(what))


def failure(console: Console, reply: Failure) -> None:
    """What has failed, what to do, the facts, the steps."""
    console.print(Text.assemble((f"{reply.code}: ", "bold red"), (plain(reply.message), "red")))
    console.print(ADVICE[reply.retry])
    if reply.side_effects != "none":
        console.print(f"Side effects: {reply.side_effects}.", style="yellow")
    if reply.facts:
        console.print(_record(reply.facts))
    _steps(console, reply.steps)


def event(console: Console, happened: Event) -> None:
    """One line."""
    facts = " ".join(f"{key}={_scalar(key, value)}" for key, value in happened.data.items())
    when = happened.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    line = f"{when} {happened.source} {happened.type} {happened.subject or ''} {facts}"
    console.print(Text(plain(" ".join(line.split()))), soft_wrap=True)


def plain(text: str) -> str:
    """Without what could steer the terminal: names and messages come from elsewhere."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _steps(console: Console, steps: Sequence[Step]) -> None:
    if not steps:
        return
    table = Table("step", "status", "ms", box=None, header_style="dim")
    for step in steps:
        status = Text(step.status, style=_STATUS_STYLE.get(step.status, ""))
        table.add_row(plain(step.step), status, f"{step.took_ms:.0f}")
    console.print(table)


def _record(record: BaseModel | Mapping[str, Any], skip: str = "") -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _items(record):
        if name != skip:
            table.add_row(plain(name), _cell(name, value))
    return table


def _cell(name: str, value: Any) -> RenderableType:
    if isinstance(value, BaseModel | dict):
        record = cast("BaseModel | dict[str, Any]", value)
        return _record(record) if _items(record) else Text("-")
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return _rows(cast("list[BaseModel]", value))
    return Text(_scalar(name, value))


def _rows(records: Sequence[BaseModel]) -> Table:
    table = Table(*type(records[0]).model_fields, box=None, header_style="dim")
    for record in records:
        table.add_row(*(_cell(name, value) for name, value in record))
    return table


def _items(record: BaseModel | Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(record if isinstance(record, BaseModel) else record.items())


def _scalar(name: str, value: Any) -> str:
    match value:
        case None | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() if name.lower().endswith("bytes"):
            return f"{value} ({sized(value)})"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case list():
            return plain(", ".join(str(each) for each in cast("list[object]", value)))
        case _:
            return plain(str(value))


def sized(size_bytes: int) -> str:
    """`4.2 GiB`."""
    amount = float(size_bytes)
    for unit in _UNITS:
        if abs(amount) < 1024 or unit == _UNITS[-1]:
            return f"{amount:.4g} {unit}"
        amount /= 1024
    return ""
