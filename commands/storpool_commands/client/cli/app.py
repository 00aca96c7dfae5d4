# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The program and its subcommands."""

import logging
import re
import sys
from functools import partial
from importlib import metadata
from threading import Event
from typing import Any, get_args
from uuid import uuid4

import click

from storpool_commands import catalogue, envelope, topology
from storpool_commands.client.cli import fields, outcome, provision, render
from storpool_commands.client.cli.sending import Sending, main_options, sending_options
from storpool_commands.client.errors import CallError
from storpool_commands.wire import CommandModel

Model = type[CommandModel[Any]]

COMMANDS: tuple[Model, ...] = get_args(get_args(catalogue.Command)[0])
CONTROL_COMMANDS: tuple[Model, ...] = get_args(get_args(catalogue.ControlCommand)[0])

ABOUT = """Send commands to the StorPool agents of hosts, and print what they answer.

The options below may also stand after the command. Exit status: 0 success, 1 the command has failed,
2 wrong usage, 3 no reply (the command may still run), 130 interrupted (likewise).
"""


def main() -> None:
    """What `storpool-ctl` runs."""
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("storpool_commands").setLevel(logging.ERROR)
    program()


def subcommand_name(wire_name: str) -> str:
    """`connectPhysicalDisk` -> `connect-physical-disk`, `StorpoolResizeCmd` -> `storpool-resize`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", wire_name.removesuffix("Cmd").replace("StorPool", "Storpool"))
    return words.lower()


def _remember(ctx: click.Context, **given: Any) -> None:
    ctx.obj = Sending.take(given)


def _subcommand(model: Model) -> click.Command:
    wire_name: str = model.model_fields["command"].default
    own = list(fields.options(model))
    taken = frozenset(flag for option in own for flag in option.opts)
    both = model in COMMANDS and model in CONTROL_COMMANDS
    control = click.Option(["--control", "send_control"], is_flag=True, help="By the control queue, which never waits.")
    about = (model.__doc__ or "").strip()
    return click.Command(
        subcommand_name(wire_name),
        callback=partial(_send, model),
        params=[*own, *([control] if both else []), *sending_options(taken=taken)],
        help=about,
        short_help=about.partition("\n")[0],
        epilog=f"On the wire: {wire_name}",
    )


def _send(model: Model, *, send_control: bool = False, **given: Any) -> None:
    sending = Sending.take(given).over(click.get_current_context().obj)
    command = fields.made(model, given)
    exchange = topology.CONTROL if send_control else None
    sys.exit(outcome.run(command, sending, sending.id or uuid4(), exchange))


def _tail(*, binding: str | None, **given: Any) -> None:
    """Print the events of all hosts, or of one, as they happen, until interrupted."""
    sending = Sending.take(given).over(click.get_current_context().obj)

    def show(event: envelope.Event) -> None:
        if sending.json:
            print(event.model_dump_json(by_alias=True), flush=True)  # noqa: T201
        else:
            render.event(outcome.out, event)

    try:
        with sending.client() as client, client.events(binding or f"{sending.host or '*'}.#", show):
            Event().wait()
    except KeyboardInterrupt:
        sys.exit(outcome.INTERRUPTED)
    except CallError as error:
        sys.exit(outcome.complain(str(error), outcome.NO_REPLY))
    except (ValueError, OSError) as error:
        sys.exit(outcome.complain(str(error), outcome.USAGE))


def _version_option() -> click.Option:
    about = "Show the version and exit."
    return click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help=about
    )


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"storpool-ctl, version {_version()}")
        ctx.exit()


def _version() -> str:
    """Of what it was installed with: the SDK alone, or the agent, whose version is the same."""
    try:
        return metadata.version("storpool-commands")
    except metadata.PackageNotFoundError:
        return metadata.version("storpool-agent")


def _program() -> click.Group:
    group = click.Group(
        "storpool-ctl",
        callback=click.pass_context(_remember),
        params=[*main_options(), _version_option()],
        help=ABOUT,
        no_args_is_help=True,
    )
    for model in dict.fromkeys((*COMMANDS, *CONTROL_COMMANDS)):
        group.add_command(_subcommand(model))
    binding = click.Option(["--binding"], help="Routing key, such as '*.attachment.*'. [default: all of --host]")
    tail = click.Command("events", callback=_tail, params=[binding, *sending_options()], help=_tail.__doc__)
    tail.short_help = "Print events as they happen."
    group.add_command(tail)
    group.add_command(provision.group())
    return group


program = _program()
