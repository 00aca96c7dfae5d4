# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon itself, and its settings."""

import faulthandler
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
import structlog

from storpool_agent import app, logs
from storpool_agent.cli import render
from storpool_agent.cli.exits import EX_CONFIG, EX_TEMPFAIL, fail
from storpool_agent.cli.options import config_option, json_option
from storpool_agent.effective import effective
from storpool_agent.errors import JournalUnavailable
from storpool_agent.settings import Settings, SettingsInvalid, load
from storpool_agent.stop import StopSignal

log = structlog.get_logger()


@click.command()
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


@click.command("check-config")
@config_option
@json_option
def check_config(config: Path, as_json: bool) -> None:
    """Print the settings that are in effect, secrets hidden, or what is wrong with them."""
    settings = _load(config)
    try:
        values = effective(settings)
    except SettingsInvalid as error:
        fail(error, EX_CONFIG)
    if as_json:
        render.json_of(values)
    else:
        render.facts(list(values.items()))


def _exit_now(status: int) -> NoReturn:
    """Threads that were started before the failure must not keep the process; systemd starts it again."""
    sys.stdout.flush()
    os._exit(status)


def _load(config: Path) -> Settings:
    try:
        return load(config)
    except SettingsInvalid as error:
        fail(error, EX_CONFIG)
