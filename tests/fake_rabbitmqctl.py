# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""rabbitmqctl for tests without a broker: it keeps definitions as the real one does (3.10.8)."""

from typing import Any

from storpool_commands.client.provisioning.rabbitmqctl import Definitions, RabbitmqCtl

KEYS = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("user", "vhost"),
    "topic_permissions": ("user", "vhost", "exchange"),
}
GUEST = {
    "name": "guest",
    "password_hash": "xvNiXKXqG92CwdfhmLLUT8T5Sz4vlrwPLu8+Kic89GoOowgc",
    "hashing_algorithm": "rabbit_password_hashing_sha256",
    "tags": ["administrator"],
    "limits": {},
}
"""Its password is `guest`."""


class FakeRabbitmqCtl(RabbitmqCtl):
    """Of a broker with the vhost `/` and the user `guest`."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, list[dict[str, Any]]] = {name: [] for name in KEYS}
        self.kept["vhosts"].append({"name": "/", "limits": [], "metadata": {}})
        self.kept["users"].append(GUEST)
        self.defined: list[Definitions] = []
        """What it was told, each time."""

    def definitions(self) -> Definitions:
        return {name: [dict(one) for one in entries] for name, entries in self.kept.items()}

    def define(self, wanted: Definitions) -> None:
        self.defined.append(wanted)
        for section, entries in wanted.items():
            for entry in entries:
                assert section in {"users", "vhosts"} or self.knows(entry), entry
                others = [one for one in self.kept[section] if not _same(section, one, entry)]
                self.kept[section] = [*others, dict(entry)]

    def knows(self, permission: Any) -> bool:
        """A permission for nobody, or nowhere, is refused."""
        users, vhosts = ({one["name"] for one in self.kept[name]} for name in ("users", "vhosts"))
        return permission["user"] in users and permission["vhost"] in vhosts


def _same(section: str, one: Any, other: Any) -> bool:
    return all(one[name] == other[name] for name in KEYS[section])
