# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The program and its subcommands."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import click

ABOUT = """KVM host agent for StorPool.

On the host, as root: status, jobs, job, why, attachments, drift and logs say how it is. They ask the agent over its
control socket, and look themselves when it does not answer. Exit status: 0 all is well, 1 trouble, or refused,
2 wrong usage, 3 the agent does not run (status, and what only the agent can do), 77 not root, 78 settings that
cannot be used.
"""


class Commands(click.Group):
    """Imports a subcommand when it is used."""

    HOMES: ClassVar[Mapping[str, str]] = {
        "run": "daemon",
        "check-config": "daemon",
        "status": "status",
        "jobs": "jobs",
        "job": "jobs",
        "why": "why",
        "attachments": "volumes",
        "drift": "volumes",
        "drain": "orders",
        "cancel": "orders",
        "logs": "logs",
    }
    """The module of each."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        home = self.HOMES.get(cmd_name)
        if home is None:
            return None
        module = import_module(f"storpool_agent.cli.{home}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - asked for seldom

        click.echo(f"storpool-agent, version {version('storpool-agent')}")
        ctx.exit()


_VERSION: dict[str, Any] = {"is_flag": True, "expose_value": False, "is_eager": True, "callback": _version}


@click.group(cls=Commands, help=ABOUT)
@click.option("--version", **_VERSION, help="Show the version and exit.")
def main() -> None:
    """What `storpool-agent` runs."""
