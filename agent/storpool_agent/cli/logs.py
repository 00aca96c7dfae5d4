# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent's log, for people."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, cast

import click

from storpool_agent.cli import systemd
from storpool_agent.cli.exits import INTERRUPTED, TROUBLE, fail
from storpool_agent.cli.render import BAD, FAINT, WARNING, plain, styled

LINES = 200
"""So many are shown unless more is asked for."""
LEVELS = ("debug", "info", "warning", "error", "critical")
_STYLES = {"warning": WARNING, "error": BAD, "critical": BAD, "debug": FAINT}
_HEAD = ("timestamp", "level", "event", "exception", "request", "command")
SHORT = 8
"""So much of a request's id: `storpool-agent job` takes it. --json has it all."""


@click.command()
@click.argument("file", type=click.File(encoding="utf-8", errors="replace"), required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as more comes.")
@click.option("--since", help="As journalctl takes it: 'today', '-1h', '2026-01-31 12:00'.")
@click.option("--lines", type=click.IntRange(0), help=f"How many. [default: {LINES}; with --since or --request all]")
@click.option("--request", "request_id", help="Only lines about the request whose id begins so.")
@click.option("--level", type=click.Choice(LEVELS), help="Only lines from this level on.")
@click.option("--json", "as_json", is_flag=True, help="The lines as the agent wrote them.")
def logs(
    file: Iterable[str] | None,
    follow: bool,
    since: str | None,
    lines: int | None,
    request_id: str | None,
    level: str | None,
    as_json: bool,
) -> None:
    """Show the agent's log: of journald, or of a FILE (- for stdin) with its lines."""
    if file is not None and (follow or since or lines is not None):
        raise click.UsageError("--follow, --since and --lines are journalctl's; a FILE is shown as it is")
    if lines is None and not (since or request_id):
        lines = LINES
    source: AbstractContextManager[Iterable[str]] = (
        nullcontext(file) if file is not None else systemd.journal(follow=follow, since=since, lines=lines)
    )
    try:
        with source as text:
            for one in chosen(text, request_id, level):
                click.echo(one if as_json else shown(one))
    except FileNotFoundError:
        fail("there is no journalctl here; give the file that the agent logs to", TROUBLE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def chosen(text: Iterable[str], request_id: str | None, level: str | None) -> Iterator[str]:
    """The lines that are wanted. What is no line of the agent's log is, unless one asks for something of it."""
    for line in text:
        entry = read(line)
        if entry is None:
            if not (request_id or level):
                yield line.rstrip("\n")
        elif _is_about(entry, request_id) and _is_from(entry, level):
            yield line.rstrip("\n")


def read(line: str) -> Mapping[str, Any] | None:
    """None for what is no line of the agent's log: of systemd, or of a library."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return cast("dict[str, Any]", entry) if isinstance(entry, dict) and "event" in entry else None


def shown(line: str) -> str:
    """`2026-01-31 02:13:07 warning failed 6e8742a9 detachDisk code=unplug-pending`; a traceback below."""
    entry = read(line)
    if entry is None:
        return plain(line)
    level = str(entry.get("level", ""))
    about = [str(entry[key])[: SHORT if key == "request" else None] for key in ("request", "command") if key in entry]
    values = [f"{styled((key, FAINT))}={_value(each)}" for key, each in entry.items() if key not in _HEAD]
    head = f"{_time(entry)} {styled((level.ljust(7), _STYLES.get(level, '')))}"
    event = styled((str(entry["event"]), _STYLES.get(level, "bold")))
    line = " ".join([head, event, *(plain(one) for one in about), *values])
    return "\n".join([line, *_traceback(entry.get("exception"))])


def _is_about(entry: Mapping[str, Any], request_id: str | None) -> bool:
    """The request that the line belongs to, or that it tells of."""
    return request_id is None or any(
        str(entry.get(key, "")).startswith(request_id.lower()) for key in ("request", "owner")
    )


def _is_from(entry: Mapping[str, Any], level: str | None) -> bool:
    said = str(entry.get("level", "info"))
    return level is None or said not in LEVELS or LEVELS.index(said) >= LEVELS.index(level)


def _time(entry: Mapping[str, Any]) -> str:
    """By this host's clock."""
    try:
        return f"{datetime.fromisoformat(str(entry.get('timestamp'))).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return plain(str(entry.get("timestamp", "-")))


def _value(value: Any) -> str:
    bare = isinstance(value, str) and value and " " not in value
    return plain(str(value) if bare else json.dumps(value, ensure_ascii=False))


def _traceback(exception: Any) -> Iterator[str]:
    """As structlog writes it: exceptions with their frames, or text."""
    if isinstance(exception, str):
        yield from (f"    {plain(line)}" for line in exception.splitlines())
    elif isinstance(exception, list):
        for one in cast("list[dict[str, Any]]", exception):
            for frame in one.get("frames", ()):
                where = f"{frame.get('filename')}:{frame.get('lineno')} in {frame.get('name')}"
                yield f"    {plain(where)}"
            yield f"    {styled((plain(str(one.get('exc_type'))), BAD))}: {plain(str(one.get('exc_value')))}"
