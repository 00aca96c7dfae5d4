# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What an admin has the agent do."""

from pathlib import Path
from typing import Literal

import click

from storpool_agent.cli import asking
from storpool_agent.cli.asking import Answer
from storpool_agent.cli.jobs import complete_id, whole_id
from storpool_agent.cli.options import config_option, json_option
from storpool_agent.cli.presence import RUNNING
from storpool_commands.control import CancelCommand, CancelledCommand, Drain, Drained


@click.command()
@click.argument("what", type=click.Choice(["on", "off"]))
@config_option
@json_option
def drain(what: Literal["on", "off"], config: Path, as_json: bool) -> None:
    """Have the host take no more commands (on), or take them again (off). Works without the broker, too."""
    told = asking.order(config, Drain(on=what == "on"), Drained)
    if as_json:
        Answer(told, RUNNING).print_json()
    elif told.draining:
        click.echo(f"Drained: {told.unfinished} requests are to be finished; new ones wait in the broker.")
    else:
        click.echo(f"Commands are taken again; {told.unfinished} requests are not finished.")


@click.command()
@click.argument("request_id", metavar="ID", shell_complete=complete_id)
@config_option
@json_option
def cancel(request_id: str, config: Path, as_json: bool) -> None:
    """Stop a request. The first characters of its ID are enough when no other begins so."""
    found = whole_id(request_id, config)
    told = asking.order(config, CancelCommand(id=found), CancelledCommand)
    if as_json:
        Answer(told, RUNNING).print_json()
    elif told.outcome == "cancelled":
        click.echo(f"{found} had not begun, and will not.")
    else:
        click.echo(f"{found} is told to stop. `storpool-agent job {found}` says how it ends.")
