# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Manual pages, in docutils' markup for them: what the programs and the example of the settings say of themselves.

    manpages.py storpool-agent 1 | docutils --writer manpage - storpool-agent.1

What they do not say stands in packaging/man/<page>.rst, behind it.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from storpool_agent import cli as agent
from storpool_commands.client.cli import app as ctl

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "systemd" / "agent.toml.example"
PROGRAMS = {"storpool-agent": agent.main, "storpool-ctl": ctl.program}
SPECIAL = re.compile(r"([\\*|_<>]|:(?=//))")
NOTHING = ".."
COPYRIGHT_LINES = 2
LITERAL = re.compile(r"`+([^`]+)`+")
SETTING = re.compile(r"#?(\w+ = .*)")
SECTION = re.compile(r"#?(\[[\w.]+\])")


def main(page: str, section: str) -> None:
    """Write the page to standard output."""
    body = settings() if page == "agent.toml" else program(page, PROGRAMS[page])
    about, _, ending = (HERE / "man" / f"{page}.rst").read_text().partition("\n")
    for line in (*head(page, about, section), *body, *ending.splitlines()):
        print(line)


def head(page: str, about: str, section: str) -> Iterator[str]:
    """What comes first; the date is that of the release, so that a build can be repeated."""
    date = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    yield from heading(page, "=", over=True)
    yield from heading(about, "-", over=True)
    yield f":Manual section: {section}"
    yield ":Manual group: storpool-agent"
    yield f":Version: storpool-agent {version('storpool-agent')}"
    yield f":Date: {date:%Y-%m-%d}"


def program(name: str, command: click.Group) -> Iterator[str]:
    """Synopsis, description, options, and each subcommand with its own options."""
    context = click.Context(command, info_name=name)
    yield from heading("SYNOPSIS", "=")
    yield from ("", f"**{name}** [*options*] *command* [*options*]")
    yield from heading("DESCRIPTION", "=")
    yield from prose(command.help or "")
    yield from heading("OPTIONS", "=")
    yield from options(command.get_params(context), context)
    yield from heading("COMMANDS", "=")
    common = {param.name for param in command.params}
    for each in command.list_commands(context):
        subcommand = command.get_command(context, each)
        if subcommand is None:
            raise LookupError(f"{name} lists {each}, and has no such command")
        inner = click.Context(subcommand, info_name=each, parent=context)
        given = [param.make_metavar(inner) for param in subcommand.params if isinstance(param, click.Argument)]
        yield from heading(escaped(" ".join([each, *given])), "-")
        yield from prose(subcommand.help or "")
        yield from prose(subcommand.epilog or "")
        yield from options([param for param in subcommand.get_params(inner) if param.name not in common], inner)


def options(params: Iterable[click.Parameter], context: click.Context) -> Iterator[str]:
    for param in params:
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record is not None and "--help" not in param.opts:
            yield from item(*record)


def settings() -> Iterator[str]:
    """The example, whose comments are the manual: what stands at its top, then a section for each of its own."""
    said: list[str] = []
    terms: list[str] = []
    yield from heading("DESCRIPTION", "=")
    for line in [*EXAMPLE.read_text().splitlines()[COPYRIGHT_LINES:], ""]:
        if terms and not SETTING.fullmatch(line):
            yield from item(", ".join(terms), " ".join(said))
            said, terms = [], []
        if found := SECTION.fullmatch(line):
            yield from heading(escaped(found[1]), "=")
        elif found := SETTING.fullmatch(line):
            terms.append(found[1])
        elif text := line.lstrip("# "):
            said.append(text)
        if said and not terms and not line.startswith("# "):
            yield from prose(" ".join(said))
            said = []


def item(term: str, meaning: str) -> Iterator[str]:
    """What an option or a setting means; some say it by their name."""
    yield from ("", f"**{escaped(term)}**", f"  {escaped(' '.join(meaning.split())) or NOTHING}", "")


def prose(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from ("", escaped(" ".join(paragraph.split())))


def heading(text: str, line: str, *, over: bool = False) -> Iterator[str]:
    yield ""
    if over:
        yield line * len(text)
    yield from (text, line * len(text))


def escaped(text: str) -> str:
    """As it stands, but for what is between backquotes."""
    parts = LITERAL.split(text)
    return "".join(f"\\ ``{part}``\\ " if at % 2 else SPECIAL.sub(r"\\\1", part) for at, part in enumerate(parts))


if __name__ == "__main__":
    main(*sys.argv[1:])
