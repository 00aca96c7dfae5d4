# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`storpool-ctl migrate`: the commands that move a machine to another host, in their order."""

import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import click
from pydantic import ValidationError

from storpool_commands.client.cli import asking, bar, outcome, render
from storpool_commands.client.cli.sending import Sending, sending_options
from storpool_commands.client.cli.values import JsonObject, KeyValue, Size
from storpool_commands.client.errors import CallError, CommandFailed, MigrationFailed
from storpool_commands.client.migrating import BEGIN_WITHIN_S, CompletedMigration, MigrationPlan
from storpool_commands.copies import MigrateVolume
from storpool_commands.encryption import Key

NOT_OF_ONE_REQUEST = frozenset({"--host", "--timeout", "--dry-run", "--id"})
ABOUT = """Move a running machine to another host, with its volumes.

Looks at VM (UUID or name) on the one host, prepares the other, moves the machine, and has the first let go of the
volumes; on failure the machine stays where it is, and the other host lets go. Interrupted or failed, the same with the
same --migration goes on.

Exit status: 0 it runs there, 1 it stays where it is, 3 not settled, or no reply, 130 interrupted (it may go on).
"""
_VOLUME = """A disk that moves to other storage on the way, as migrateVolume's fields in JSON, such as
'{"source": {"store": "file:///vms", "path": "a.qcow2"}, "sourceFormat": "qcow2", "template": "hybrid"}'."""


def command() -> click.Command:
    """The subcommand."""
    own: list[click.Parameter] = [
        click.Argument(["vm"]),
        click.Option(["--from", "source"], required=True, help="The host that it runs on."),
        click.Option(["--to", "destination"], required=True, help="The host that it is to run on."),
        click.Option(["--migration"], type=click.UUID, help="That of an earlier call, to go on with it."),
        click.Option(["--volume", "volumes"], type=JsonObject(), multiple=True, help=_VOLUME),
        click.Option(
            ["--disk-key", "keys"],
            type=KeyValue(),
            multiple=True,
            help="GLOBAL_ID=file:NAME or GLOBAL_ID=credential:NAME, as the destination has the key.",
        ),
        click.Option(["--begin-within", "begin_within_s"], type=click.FLOAT, default=BEGIN_WITHIN_S, show_default=True),
        click.Option(["--bandwidth", "bandwidth_bytes_s"], type=Size(), help="Bytes a second, at most."),
        click.Option(
            ["--downtime-limit-ms"], type=click.INT, help="How long the guest may stand still. [default: 300]"
        ),
        click.Option(["--auto-converge/--no-auto-converge"], default=True, help="Slow a guest down that is too busy."),
    ]
    return click.Command(
        "migrate",
        callback=_migrate,
        params=[*own, *sending_options(taken=NOT_OF_ONE_REQUEST)],
        help=ABOUT,
        short_help="Move a running machine to another host.",
    )


def _migrate(**given: Any) -> None:
    sending = Sending.take(given).over(click.get_current_context().obj)
    sys.exit(run(plan_of(given, sending.deadline), sending))


def plan_of(given: Mapping[str, Any], deadline: datetime | None) -> MigrationPlan:
    """Of the options, by their names. Raises click.UsageError."""
    try:
        volumes = [MigrateVolume.model_validate_json(json.dumps({"vm": given["vm"], **it})) for it in given["volumes"]]
        keys = {global_id: _key(place) for global_id, place in given["keys"]}
    except ValidationError as error:
        raise click.UsageError(str(error)) from None
    rest = {name: value for name, value in given.items() if name not in {"volumes", "keys", "migration"}}
    migration: UUID = given["migration"] or uuid4()
    return MigrationPlan(**rest, migration=migration, volumes=volumes, keys=keys, deadline=deadline)


def _key(place: str) -> Key:
    match place.partition(":"):
        case ("file", _, name):
            return Key(file=name)
        case ("credential", _, name):
            return Key(credential=name)
        case _:
            raise click.UsageError("--disk-key: must be GLOBAL_ID=file:NAME or GLOBAL_ID=credential:NAME")


def run(plan: MigrationPlan, sending: Sending) -> int:
    """Returns the exit status."""
    try:
        completed = _completed(plan, sending)
    except (MigrationFailed, CommandFailed) as error:
        return outcome.complain(str(error), outcome.FAILED)
    except CallError as error:
        return _hint(plan, outcome.complain(str(error), outcome.NO_REPLY))
    except (ValueError, OSError) as error:
        return outcome.complain(str(error), outcome.USAGE)
    except KeyboardInterrupt:
        outcome.err.print("Interrupted. What the hosts have been told to do goes on.")
        return _hint(plan, outcome.INTERRUPTED)
    if sending.json:
        print(completed.model_dump_json(by_alias=True), flush=True)  # noqa: T201
    else:
        render.record(outcome.out, completed)
    return outcome.SUCCESS


def _completed(plan: MigrationPlan, sending: Sending) -> CompletedMigration:
    display = bar.display(outcome.err, quiet=bool(sending.quiet), json=bool(sending.json))
    with ThreadPoolExecutor(1, "storpool-ask") as pool, sending.client() as client, display as shown:
        if not isinstance(shown, bar.Bar) or not asking.somebody_answers():
            return client.migrate(plan, on_progress=shown.show, on_phase=shown.phase)
        waiting = pool.submit(client.migrate, plan, on_progress=shown.show, on_phase=shown.phase)
        interruptions = asking.Interruptions(client, shown, outcome.err, plan.request(), plan.source)
        return asking.reply_of(waiting, interruptions.one)


def _hint(plan: MigrationPlan, status: int) -> int:
    outcome.err.print(f"To go on: the same command again with --migration {plan.migration}", soft_wrap=True)
    return status
