# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""storpool-ctl provision: the broker made ready for hosts, management planes, and who listens."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from storpool_commands.client.cli import outcome
from storpool_commands.client.cli.sending import Sending
from storpool_commands.client.provisioning import roles
from storpool_commands.client.provisioning.change import Change, ProvisioningFailed
from storpool_commands.client.provisioning.objects import provision_objects
from storpool_commands.client.provisioning.rabbitmqctl import RabbitmqCtl
from storpool_commands.client.provisioning.roles import Role
from storpool_commands.client.provisioning.users import User, lines, provision_users
from storpool_commands.topology import ANY_HOST
from storpool_commands.wire import HostId

HOST_USER = "host-"
"""Before the host's name: its user, which is also the common name of its certificate."""
ABOUT = """Make the broker ready. What is there already is left as it is, and said.

`objects` makes exchanges and queues over AMQP (--url before `provision`), as a user who may: `administrator`. The
others print what a shell on a node of the broker is to be given to make a user with the least permissions for its
work, or do it there themselves with --run, as root. They need rabbitmqctl, and no management plugin.
"""


class _Word(click.ParamType):  # type: ignore[type-arg] # generic from click 8.5 on only
    """A host, a word that replies come back under, or a user: one word of a routing key."""

    name = "word"
    _kind: TypeAdapter[str] = TypeAdapter(HostId)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            word = self._kind.validate_python(value)
        except ValidationError:
            self.fail(f"{value!r} is not one word of A-Z a-z 0-9 _ -, at most 63", param, ctx)
        if word == ANY_HOST:
            self.fail(f"{ANY_HOST} is the name for all hosts", param, ctx)
        return word


WORD = _Word()


def _objects(hosts: tuple[str, ...]) -> None:
    """Make exchanges and queues, those of the HOSTS too."""
    sending: Sending = click.get_current_context().obj
    try:
        endpoints = sending.endpoints()
        _tell(lambda: provision_objects(endpoints, hosts))
    except (ValueError, OSError) as error:
        sys.exit(outcome.complain(str(error), outcome.USAGE))


def _host(names: tuple[str, ...], **how: Any) -> None:
    """Make the users of hosts' agents: host-NAME."""
    _users({HOST_USER + name: roles.host(name) for name in names}, **how)


def _publisher(names: tuple[str, ...], reply_to: tuple[str, ...], **how: Any) -> None:
    """Make the users of management planes, which may command every host."""
    _users({name: roles.publisher((name, *reply_to)) for name in names}, **how)


def _reader(names: tuple[str, ...], host: tuple[str, ...], **how: Any) -> None:
    """Make users who hear events, and can do nothing else."""
    _users({name: roles.reader([name], host) for name in names}, **how)


def _administrator(names: tuple[str, ...], **how: Any) -> None:
    """Make users who provision, and read dead letters."""
    _users({name: roles.administrator() for name in names}, **how)


def _users(
    wanted: Mapping[str, Role],
    vhost: str,
    node: str | None,
    password_file: Path | None,
    *,
    certificate: bool,
    run: bool,
) -> None:
    if certificate == (password_file is not None):
        raise click.UsageError("Give --password-file, or --certificate.")
    if password_file is not None and len(wanted) > 1:
        raise click.UsageError("Make them one by one: one password file is for one user.")
    users = [User(name, vhost, role, password_file) for name, role in wanted.items()]
    if run:
        _tell(lambda: provision_users(RabbitmqCtl(node), users))
        return
    for line in dict.fromkeys(line for user in users for line in lines(user)):
        click.echo(line)


def _tell(provision: Callable[[], Iterable[Change]]) -> None:
    try:
        for change in provision():
            click.echo(f"{change.done:<9}  {change.what}")
    except ProvisioningFailed as error:
        sys.exit(outcome.complain(str(error), outcome.FAILED))


def _user_options() -> list[click.Parameter]:
    file = click.Path(dir_okay=False, path_type=Path)
    return [
        click.Argument(["names"], type=WORD, nargs=-1, required=True),
        click.Option(["--vhost"], default="storpool", show_default=True, help="Made where it is missing."),
        click.Option(
            ["--password-file"], type=file, help="Its password; made, for its owner alone, when it is not there."
        ),
        click.Option(["--certificate"], is_flag=True, help="No password: it logs in by a certificate of this name."),
        click.Option(["--run"], is_flag=True, help="Run rabbitmqctl, do not print what to run."),
        click.Option(["--node"], help="As rabbitmqctl takes it. [default: the node of this machine]"),
    ]


def _command(name: str, callback: Callable[..., None], params: list[click.Parameter]) -> click.Command:
    return click.Command(name, callback=callback, params=params, help=callback.__doc__)


def group() -> click.Group:
    """The subcommand."""
    made = click.Group("provision", help=ABOUT, short_help="Make the broker ready: objects, users, permissions.")
    words = click.Option(["--reply-to"], type=WORD, multiple=True, help="A word for replies beside NAMES. Repeatable.")
    hosts = click.Option(["--host"], type=WORD, multiple=True, help="Whose events. Repeatable. [default: all]")
    made.add_command(_command("objects", _objects, [click.Argument(["hosts"], nargs=-1, type=WORD)]))
    made.add_command(_command("host", _host, _user_options()))
    made.add_command(_command("publisher", _publisher, [*_user_options(), words]))
    made.add_command(_command("reader", _reader, [*_user_options(), hosts]))
    made.add_command(_command("administrator", _administrator, _user_options()))
    return made
