# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A user of the broker, brought to what its role says: run, or as lines for a shell."""

import os
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storpool_commands.client.provisioning.change import Change, ProvisioningFailed
from storpool_commands.client.provisioning.rabbitmqctl import PROGRAM, RabbitmqCtl
from storpool_commands.client.provisioning.roles import Role, TopicPermission

Row = Mapping[str, Any]

PASSWORD_BYTES = 24


@dataclass(frozen=True)
class User:
    """Who it is, and what it may in one vhost."""

    name: str
    vhost: str
    role: Role
    password_file: Path | None
    """Holds its password; is made when it is not there. None: it has none, and logs in by a certificate (EXTERNAL)."""


def lines(user: User) -> Iterator[str]:
    """What a shell on a node of the broker is to be given. Safe to give again, but for the password of a new user."""
    yield _line("add_vhost", user.vhost)
    if user.password_file is None:
        yield f"head -c {PASSWORD_BYTES} /dev/urandom | base64 | {_line('add_user', user.name)}"
        yield _line("clear_password", user.name)
    else:
        file = shlex.quote(str(user.password_file))
        yield f"(umask 077; [ -s {file} ] || head -c {PASSWORD_BYTES} /dev/urandom | base64 > {file})"
        yield f"{_line('add_user', user.name)} < {file}"
    yield _line("set_user_tags", user.name)
    yield _line(*_set_general(user))
    for topic in user.role.topics:
        yield _line(*_set_topic(user, topic))


def provision_user(ctl: RabbitmqCtl, user: User) -> Iterator[Change]:
    """Make or change what is not as it should be. Raises ProvisioningFailed."""
    yield _vhost(ctl, user.vhost)
    known = {row["user"]: row["tags"] for row in ctl.listed("list_users")}
    yield _login(ctl, user, known=user.name in known)
    if known.get(user.name):  # a tag such as `impersonator` lets it speak as others
        ctl.run("set_user_tags", user.name)
        yield Change(f"tags of {user.name}", "changed")
    yield _general(ctl, user)
    yield from _topics(ctl, user)


def _vhost(ctl: RabbitmqCtl, vhost: str) -> Change:
    there = any(row["name"] == vhost for row in ctl.listed("list_vhosts", "name"))
    if not there:
        ctl.run("add_vhost", vhost)
    return Change(f"vhost {vhost}", "unchanged" if there else "made")


def _login(ctl: RabbitmqCtl, user: User, *, known: bool) -> Change:
    if user.password_file is None:
        if not known:
            ctl.run("add_user", user.name, stdin=secrets.token_urlsafe(PASSWORD_BYTES))
        ctl.run("clear_password", user.name)  # whether it has one cannot be asked
        return Change(f"user {user.name}, without a password", "unchanged" if known else "made")
    password = _password(user.password_file)
    what = f"user {user.name}, with the password in {user.password_file}"
    if not known:
        ctl.run("add_user", user.name, stdin=password)
        return Change(what, "made")
    if ctl.succeeds("authenticate_user", user.name, stdin=password):
        return Change(what, "unchanged")
    ctl.run("change_password", user.name, stdin=password)
    return Change(what, "changed")


def _general(ctl: RabbitmqCtl, user: User) -> Change:
    role = user.role
    wanted = {"vhost": user.vhost, "configure": role.configure, "write": role.write, "read": role.read}
    there = [row for row in ctl.listed("list_user_permissions", user.name) if row["vhost"] == user.vhost]
    what = f"permissions of {user.name} in {user.vhost}"
    return _permitted(ctl, what, wanted, there, _set_general(user))


def _topics(ctl: RabbitmqCtl, user: User) -> Iterator[Change]:
    rows = ctl.listed("list_user_topic_permissions", user.name)
    for topic in user.role.topics:
        wanted = {"vhost": user.vhost, "exchange": topic.exchange, "write": topic.write, "read": topic.read}
        there = [row for row in rows if (row["vhost"], row["exchange"]) == (user.vhost, topic.exchange)]
        what = f"permissions of {user.name} on the topics of {topic.exchange}"
        yield _permitted(ctl, what, wanted, there, _set_topic(user, topic))


def _permitted(ctl: RabbitmqCtl, what: str, wanted: Row, there: Sequence[Row], arguments: tuple[str, ...]) -> Change:
    if any(wanted.items() <= row.items() for row in there):
        return Change(what, "unchanged")
    ctl.run(*arguments)
    return Change(what, "changed" if there else "made")


def _set_general(user: User) -> tuple[str, ...]:
    role = user.role
    return ("set_permissions", "--vhost", user.vhost, user.name, role.configure, role.write, role.read)


def _set_topic(user: User, topic: TopicPermission) -> tuple[str, ...]:
    return ("set_topic_permissions", "--vhost", user.vhost, user.name, topic.exchange, topic.write, topic.read)


def _password(file: Path) -> str:
    """What is in the file, which is made for root alone when it is not there. Raises ProvisioningFailed."""
    try:
        if not file.exists():
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
                made.write(secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
        password = file.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except OSError as error:
        raise ProvisioningFailed(f"{file}: {error.strerror}") from error
    if not password:
        raise ProvisioningFailed(f"{file}: no password in its first line")
    return password


def _line(*arguments: str) -> str:
    return shlex.join([PROGRAM, *arguments])
