# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where and how a command is sent: options that stand before the subcommand, or after it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import click

from storpool_commands.client import endpoint
from storpool_commands.client.cli.values import PointInTime
from storpool_commands.client.client import ManagementClient
from storpool_commands.client.endpoint import Endpoint, Tls

DEFAULT_URL = "amqp://127.0.0.1"
_PREFIX = "send_"  # no field of a command is called so
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_OPTIONS: dict[str, dict[str, Any]] = {
    "--host": {"help": "The host that the command is for; any: the first that is free."},
    "--timeout": {"type": click.FLOAT, "help": "Seconds to wait for the reply. [default: by the command]"},
    "--deadline": {"type": PointInTime(), "help": "The host starts nothing after it: 2026-01-31T12:00:00Z, or +60."},
    "--dry-run": {"is_flag": True, "help": "Check, and say what would be done."},
    "--id": {"type": click.UUID, "help": "That of an earlier request, for its reply; nothing is done again."},
    "--json": {"is_flag": True, "help": "Print the reply as JSON on stdout, and nothing else there."},
    "--quiet": {"is_flag": True, "help": "Do not show how far it is."},
    "--url": {
        "multiple": True,
        "help": f"amqp(s)://login[:password]@broker/vhost, repeated for a cluster. [default: {DEFAULT_URL}]",
    },
    "--password-file": {"type": _FILE, "help": "Holds the password of the login."},
    "--ca": {"type": _FILE, "help": "The authorities that sign the broker's certificate."},
    "--cert": {"type": _FILE, "help": "Log in by this client certificate."},
    "--key": {"type": _FILE, "help": "The key of --cert. [default: in the same file]"},
}
_FROM_ENVIRONMENT = {"--host", "--url", "--password-file", "--ca", "--cert", "--key"}


@dataclass(frozen=True)
class Sending:
    """What was given; None where nothing was."""

    host: str | None = None
    timeout: float | None = None
    deadline: datetime | None = None
    dry_run: bool | None = None
    id: UUID | None = None
    json: bool | None = None
    quiet: bool | None = None
    url: tuple[str, ...] | None = None
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def take(cls, given: dict[str, Any]) -> Self:
        """Takes its own out of all that was given."""
        return cls(**{each.name: given.pop(_PREFIX + each.name, None) or None for each in fields(cls)})

    def over(self, other: "Sending") -> "Sending":
        """What was given here, else there."""
        return Sending(**{**_given(other), **_given(self)})

    def client(self) -> ManagementClient:
        """Not opened yet. Raises ValueError, OSError."""
        # Nothing is declared: an operator's login need not be one that may make exchanges.
        return ManagementClient(self.url or DEFAULT_URL, password=self._password(), tls=self._tls(), declare=False)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The brokers alone. Raises ValueError, OSError."""
        return endpoint.parse(self.url or DEFAULT_URL, self._password(), self._tls())

    def _password(self) -> str | None:
        return self.password_file.read_text().rstrip("\n") if self.password_file else None

    def _tls(self) -> Tls | None:
        return Tls(self.ca, self.cert, self.key) if self.ca or self.cert else None


def sending_options(*, taken: frozenset[str] = frozenset()) -> list[click.Parameter]:
    """For a subcommand, those that are not among the names of its own options."""
    return [_option(flag, details) for flag, details in _OPTIONS.items() if flag not in taken]


def main_options() -> list[click.Parameter]:
    """For the program: these also come from the environment, so that what is given anywhere goes before."""
    return [_option(flag, {**details, **_environment(flag)}) for flag, details in _OPTIONS.items()]


def _option(flag: str, details: Mapping[str, Any]) -> click.Option:
    return click.Option([flag, _PREFIX + flag[2:].replace("-", "_")], default=None, **details)


def _environment(flag: str) -> dict[str, Any]:
    if flag not in _FROM_ENVIRONMENT:
        return {}
    return {"envvar": "STORPOOL_CTL_" + flag[2:].replace("-", "_").upper(), "show_envvar": True}


def _given(sending: Sending) -> dict[str, Any]:
    return {name: value for name, value in vars(sending).items() if value is not None}
