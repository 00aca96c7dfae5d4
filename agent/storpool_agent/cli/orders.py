# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What an admin has the agent do."""

from pathlib import Path
from typing import Literal

import click

from storpool_agent.cli import asking, render
from storpool_agent.cli.asking import Answer
from storpool_agent.cli.jobs import complete_id, progress, whole_id
from storpool_agent.cli.options import config_option, json_option
from storpool_agent.cli.presence import RUNNING
from storpool_commands.control import (
    CancelCommand,
    CancelledCommand,
    Drain,
    Drained,
    ListedAttachment,
    UnfinishedCommand,
)


@click.command()
@click.argument("what", type=click.Choice(["on", "off"]))
@config_option
@json_option
def drain(what: Literal["on", "off"], config: Path, as_json: bool) -> None:
    """Have the host take no more commands (on), or take them again (off). Works without the broker, too.

    Once more: what is left. A host that is quiet may be taken down.
    """
    told = asking.order(config, Drain(on=what == "on"), Drained)
    if as_json:
        Answer(told, RUNNING).print_json()
    elif told.draining:
        show(told)
    else:
        click.echo(f"Commands are taken again; {told.unfinished} requests are not finished.")


def show(told: Drained) -> None:
    """What a maintenance of the host would disturb."""
    click.echo(_headline(told))
    rows = [[str(one.id), one.body_command, one.state, _far(one)] for one in told.commands]
    rows += [
        [one.request, "detachDisk", "the guest has not let go", f"~{one.global_id}"] for one in told.pending_unplugs
    ]
    rows += [[one.request, "mirror", f"machine {one.vm}", one.path] for one in told.mirrors]
    if rows:
        render.heading("Under way")
        render.table(("request", "what", "state", ""), rows)
    if told.attachments:
        render.heading("Running machines have")
        render.table(("volume", "machines"), [[f"~{one.global_id}", _machines(one)] for one in told.attachments])
    if told.not_known:
        render.line((f"Not known: {told.not_known}", render.BAD))


def _headline(told: Drained) -> str:
    if told.quiet:
        return "Drained, and quiet: nothing is under way, and no running machine has a volume."
    if told.unfinished or told.pending_unplugs or told.mirrors:
        left = f"To be finished: {told.unfinished}. Ask again until the host is quiet."
        return f"Drained: new commands wait in the broker. {left}"
    if told.attachments:
        return "Drained, and nothing is under way. It is quiet when the running machines have moved away, or are off."
    return "Drained, and nothing is under way. It is not known whether running machines have volumes."


def _far(one: UnfinishedCommand) -> str:
    return progress(one.progress) if one.progress else f"for {render.lasting(one.waited_s)}"


def _machines(one: ListedAttachment) -> str:
    return ", ".join(one.vm_names or one.vms)


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
