# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Users of the broker, brought to what their roles say: done, or as lines for a shell."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storpool_commands.client.provisioning.change import Change
from storpool_commands.client.provisioning.passwords import ALGORITHM, PASSWORD_BYTES, hashed, is_hash_of, password_in
from storpool_commands.client.provisioning.rabbitmqctl import PROGRAM, Definitions, RabbitmqCtl
from storpool_commands.client.provisioning.roles import Role

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class User:
    """Who it is, and what it may in one vhost."""

    name: str
    vhost: str
    role: Role
    password_file: Path | None
    """Holds its password; is made when it is not there. None: it has none, and logs in by a certificate (EXTERNAL)."""


def lines(user: User) -> Iterator[str]:
    """What a shell on a node of the broker is to be given, as root. What is there already, rabbitmqctl says."""
    yield _line("add_vhost", user.vhost)
    if user.password_file is None:
        yield f"head -c {PASSWORD_BYTES} /dev/urandom | base64 | {_line('add_user', user.name)}"
        yield _line("clear_password", user.name)
    else:
        file = shlex.quote(str(user.password_file))
        yield f"(umask 077; [ -s {file} ] || head -c {PASSWORD_BYTES} /dev/urandom | base64 > {file})"
        yield f"{_line('add_user', user.name)} < {file}"
    yield _line("set_user_tags", user.name)
    role = user.role
    yield _line("set_permissions", "--vhost", user.vhost, user.name, role.configure, role.write, role.read)
    for topic in role.topics:
        what = (topic.exchange, topic.write, topic.read)
        yield _line("set_topic_permissions", "--vhost", user.vhost, user.name, *what)


def provision_users(ctl: RabbitmqCtl, users: Sequence[User]) -> list[Change]:
    """Make or change what is not as it should be. Raises ProvisioningFailed."""
    there = ctl.definitions()
    differing: defaultdict[str, list[Entry]] = defaultdict(list)
    changes: list[Change] = []
    for section, key, entry, what in _wanted(there, users):
        known = [one for one in there[section] if all(one.get(name) == entry[name] for name in key)]
        is_so = any(entry.items() <= one.items() for one in known)
        if not is_so:
            differing[section].append(entry)
        changes.append(Change(what, "unchanged" if is_so else "changed" if known else "made"))
    if differing:
        ctl.define(differing)
    return changes


def _wanted(there: Definitions, users: Iterable[User]) -> Iterator[tuple[str, tuple[str, ...], dict[str, Any], str]]:
    """Section of the definitions, the names that tell its entries apart, the entry, and what it is called."""
    users = list(users)
    for vhost in dict.fromkeys(user.vhost for user in users):
        yield "vhosts", ("name",), {"name": vhost}, f"vhost {vhost}"
    for user in users:
        yield "users", ("name",), _login(there, user), _called(user)
        place = {"user": user.name, "vhost": user.vhost}
        role = user.role
        may = {"configure": role.configure, "write": role.write, "read": role.read}
        yield "permissions", ("user", "vhost"), {**place, **may}, f"permissions of {user.name} in {user.vhost}"
        for topic in role.topics:
            entry = {**place, "exchange": topic.exchange, "write": topic.write, "read": topic.read}
            what = f"permissions of {user.name} on the topics of {topic.exchange}"
            yield "topic_permissions", ("user", "vhost", "exchange"), entry, what


def _login(there: Definitions, user: User) -> dict[str, Any]:
    """Without tags: one such as `impersonator` would let it speak as others."""
    kept = next((one["password_hash"] for one in there["users"] if one["name"] == user.name), None)
    if user.password_file is None:
        kept = ""
    else:
        password = password_in(user.password_file)
        kept = kept if kept and is_hash_of(kept, password) else hashed(password)
    return {"name": user.name, "password_hash": kept, "hashing_algorithm": ALGORITHM, "tags": []}


def _called(user: User) -> str:
    login = f"with the password in {user.password_file}" if user.password_file else "without a password"
    return f"user {user.name}, {login}"


def _line(*arguments: str) -> str:
    return shlex.join([PROGRAM, *arguments])
