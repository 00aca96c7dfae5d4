# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""storpool-agent: the daemon, and what an admin asks of it."""

import faulthandler
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
import structlog
from rich.console import Console
from rich.table import Table

from storpool_agent import app, dispatch, logs
from storpool_agent.errors import JournalUnavailable
from storpool_agent.settings import Settings, SettingsInvalid, effective, load
from storpool_agent.stop import StopSignal

log = structlog.get_logger()

DEFAULT_CONFIG = Path("/etc/storpool-agent/agent.toml")
EX_CONFIG = 78
"""sysexits.h: starting again cannot help; the unit does not try (RestartPreventExitStatus)."""
EX_TEMPFAIL = 75
"""sysexits.h: a disk that is full now may have room at the next start, which the unit makes."""

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The settings.",
)


@click.group()
@click.version_option(dispatch.VERSION, prog_name="storpool-agent")
def main() -> None:
    """KVM host agent for StorPool."""


@main.command()
@config_option
def run(config: Path) -> None:
    """Serve this host's queue until SIGTERM."""
    os.umask(0o077)  # as the unit has it: whatever this process makes is for root alone, however it was started
    stop = StopSignal()
    faulthandler.enable()  # systemd's watchdog ends us by SIGABRT: where each thread was is then in the journal
    settings = _load(config)
    logs.configure(settings.log)
    try:
        app.run(settings, stop, config)
    except (SettingsInvalid, JournalUnavailable, app.AlreadyRunning) as error:
        log.error("not started", reason=str(error))  # noqa: TRY400 - one line, for the admin
        _exit_now(EX_TEMPFAIL if isinstance(error, JournalUnavailable) else EX_CONFIG)
    except Exception:
        log.exception("crashed")
        _exit_now(1)


@main.command("check-config")
@config_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check_config(config: Path, as_json: bool) -> None:
    """Print the settings that are in effect, secrets hidden, or what is wrong with them."""
    settings = _load(config)
    try:
        values = effective(settings)
    except SettingsInvalid as error:
        _fail(error)
    console = Console()
    if as_json:
        console.print_json(data=values)
        return
    table = Table(title=str(config), show_header=False, box=None)
    for name, value in values.items():
        table.add_row(name, value)
    console.print(table)


def _exit_now(status: int) -> None:
    """Threads that were started before the failure must not keep the process; systemd starts it again."""
    sys.stdout.flush()
    os._exit(status)


def _load(config: Path) -> Settings:
    try:
        return load(config)
    except SettingsInvalid as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    click.echo(f"storpool-agent: {error}", err=True)
    sys.exit(EX_CONFIG)
