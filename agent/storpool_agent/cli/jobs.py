# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The requests that this host has accepted: all of them, or one in full."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import click

from storpool_agent.cli import asking, place, render
from storpool_agent.cli.asking import Answer
from storpool_agent.cli.exits import TROUBLE
from storpool_agent.cli.options import DEFAULT_CONFIG, config_option, json_option
from storpool_agent.cli.render import BAD, FAINT, GOOD, Cell
from storpool_commands.control import (
    CommandDetails,
    CommandStatus,
    JobProgress,
    ListCommands,
    ListedCommands,
    QueriedCommand,
    QueryCommand,
    State,
)

SHORT = 8
"""So much of an id is shown on a terminal; it is nearly always enough."""


def complete_id(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Ids of the newest requests, of an agent that runs."""
    from storpool_agent.cli import agent  # noqa: PLC0415 - for the shell alone

    try:
        where = place.find(ctx.params.get("config") or DEFAULT_CONFIG)
        listed = agent.ask(where.socket, ListCommands(limit=50, id_prefix=begun or None), ListedCommands)
    except (Exception, SystemExit):  # noqa: BLE001 - a shell that completes shows no errors
        return []
    return [str(one.id) for one in listed.commands]


@click.command()
@click.option("--state", type=click.Choice(get_args(State)), help="Only those. [default: all]")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, the newest first."
)
@config_option
@json_option
def jobs(state: State | None, limit: int, config: Path, as_json: bool) -> None:
    """The requests that this host has accepted, the newest first."""
    answer = asking.ask(config, ListCommands(state=state, limit=limit), ListedCommands)
    if as_json:
        answer.print_json()
    elif answer.result.commands:
        show(answer.result.commands)
    else:
        click.echo("No requests.", err=True)


def show(commands: list[CommandStatus]) -> None:
    """A line each."""
    render.table(("id", "command", "about", "received", "tries", "state", ""), [_row(one) for one in commands])


def _row(one: CommandStatus) -> list[Cell]:
    short = str(one.id)[:SHORT] if render.is_terminal() else str(one.id)
    return [short, one.body_command, _about(one), render.when(one.received_at), str(one.attempts), *_state(one)]


def _state(one: CommandStatus) -> tuple[Cell, Cell]:
    if one.state == "finished":
        took = (one.finished_at - one.received_at).total_seconds() if one.finished_at else 0
        ended: Cell = (one.code or "failure", BAD) if one.outcome == "failure" else ("done", GOOD)
        return ended, f"within {render.lasting(took)}"
    return one.state, progress(one.progress) if one.progress else ", ".join(one.steps[-1:])


def _about(one: CommandStatus) -> str:
    return " ".join(one.objects.values()) or "-"


def progress(at: JobProgress) -> str:
    """`copy 42% of 10 GiB, 120 MiB/s, 3 min left`."""
    said = [at.phase]
    if at.bytes_done is not None and at.bytes_total:
        said[0] += f" {100 * at.bytes_done // at.bytes_total}% of {render.sized(at.bytes_total)}"
    if at.rate_bytes_s:
        said.append(f"{render.sized(at.rate_bytes_s)}/s")
    if at.eta_s is not None:
        said.append(f"{render.lasting(at.eta_s)} left")
    if at.stalled_s is not None:
        said.append(f"stands still for {render.lasting(at.stalled_s)}")
    return ", ".join(said)


@click.command()
@click.argument("request_id", metavar="ID", shell_complete=complete_id)
@config_option
@json_option
def job(request_id: str, config: Path, as_json: bool) -> None:
    """One request in full. The first characters of its ID are enough when no other begins so."""
    found = whole_id(request_id, config)
    answer = asking.ask(config, QueryCommand(id=found, details=True), QueriedCommand)
    if as_json:
        answer.print_json()
    else:
        show_one(answer.result)


def whole_id(begun: str, config: Path) -> UUID:
    """Ends the program when no request begins so, or several do."""
    begun = begun.lower()
    try:
        return UUID(begun)
    except ValueError:
        pass
    if not begun or begun.strip("0123456789abcdef-"):
        raise click.BadParameter("is no id, nor the beginning of one", param_hint="ID")
    answer: Answer[ListedCommands] = asking.ask(config, ListCommands(id_prefix=begun[:36], limit=20), ListedCommands)
    found = answer.result.commands
    if len(found) == 1:
        return found[0].id
    if found:
        click.echo(f"storpool-agent: several requests begin with {begun}:", err=True)
        for one in found:
            click.echo(f"  {one.id}  {one.body_command}  {render.plain(_about(one))}", err=True)
    else:
        click.echo(f"storpool-agent: this host knows no request that begins with {begun}; it keeps a week", err=True)
    sys.exit(TROUBLE)


def show_one(told: QueriedCommand) -> None:
    """What became of it first, then everything that is written down."""
    render.facts([*_facts(told.status), *(_known(told.details) if told.details else ())])
    reply: dict[str, Any] = told.reply or {}
    if reply.get("status") == "failure":
        render.heading("Failed")
        render.line((f"  {reply['code']}: {reply['message']}", BAD))
        render.line(f"  {reply['retry']}, side effects: {reply['sideEffects']}")
        for name, value in reply.get("facts", {}).items():
            render.line((f"  {name}: {json.dumps(value)}", FAINT))
    _steps(told, reply)
    if told.details:
        _written_down(told.details, finished=told.status.state == "finished")
    if reply.get("status") == "success":
        render.heading("Result")
        _block(reply["result"])
    if told.details and told.details.request:
        render.heading("Command")
        _block(told.details.request)


def _steps(told: QueriedCommand, reply: dict[str, Any]) -> None:
    """Of a running request it is not known how long each took."""
    rows = [[step["step"], step["status"], f"{step['tookMs']:.0f} ms"] for step in reply.get("steps", ())]
    rows = rows or [[step, "done", "-"] for step in told.status.steps]
    if rows:
        render.heading("Steps")
        render.table(("step", "status", "took"), rows)


def _block(value: dict[str, Any]) -> None:
    for line in json.dumps(value, indent=2).splitlines():
        render.line(f"  {line}")


def _facts(one: CommandStatus) -> Iterator[tuple[str, Cell]]:
    yield "request", (str(one.id), "bold")
    yield "command", f"{one.body_command} {' '.join(f'{name}={value}' for name, value in one.objects.items())}".rstrip()
    state, more = _state(one)
    ended = state if isinstance(state, tuple) else (state, "")
    yield "state", (f"{ended[0]}{f', {more}' if more else ''}", ended[1])
    yield "received", render.moment(one.received_at)
    if one.finished_at:
        yield "finished", render.moment(one.finished_at)
    if one.attempts > 1:
        yield "attempts", f"{one.attempts}: the agent was stopped, or died, while it ran"


def _known(details: CommandDetails) -> Iterator[tuple[str, Cell]]:
    yield "sent by", f"{details.publisher or 'somebody who did not say'}{', for any host' if details.shared else ''}"
    if details.waits_for:
        yield "waits for", ", ".join(str(each)[:SHORT] for each in details.waits_for)
    if details.unsent_replies:
        yield "reply", (f"{details.unsent_replies} not sent yet", BAD)


def _written_down(details: CommandDetails, *, finished: bool) -> None:
    if details.temporaries:
        render.heading(
            "Left over, and taken away as soon as that can be" if finished else "Made for as long as it runs"
        )
        render.table(("kind", "target"), [[one.kind, one.target] for one in details.temporaries])
    if details.notes:
        render.heading("Notes")
        render.table(("kind", "target"), [[one.kind, one.target] for one in details.notes])
