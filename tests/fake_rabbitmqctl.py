# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""rabbitmqctl for tests without a broker: it remembers users, and obeys the real one's rules."""

from typing import Any

from storpool_commands.client.provisioning.change import ProvisioningFailed
from storpool_commands.client.provisioning.rabbitmqctl import RabbitmqCtl


class FakeRabbitmqCtl(RabbitmqCtl):
    """Of a broker with the vhost `/` and the user `guest`."""

    def __init__(self) -> None:
        super().__init__()
        self.vhosts = ["/"]
        self.passwords: dict[str, str | None] = {"guest": "guest"}
        self.tags: dict[str, list[str]] = {"guest": ["administrator"]}
        self.permissions: dict[tuple[str, str], tuple[str, ...]] = {}
        self.topics: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self.calls: list[tuple[str, ...]] = []
        """What was run, without what was only asked."""

    def run(self, *arguments: str, stdin: str = "") -> str:
        self.calls.append(arguments)
        match arguments:
            case ("add_vhost", vhost):
                self.vhosts.append(vhost)
            case ("add_user", user) if user not in self.passwords and stdin:
                self.passwords[user] = stdin
                self.tags[user] = []
            case ("change_password", user) if user in self.passwords and stdin:
                self.passwords[user] = stdin
            case ("clear_password", user) if user in self.passwords:
                self.passwords[user] = None
            case ("set_user_tags", user, *tags) if user in self.passwords:
                self.tags[user] = tags
            case ("set_permissions", "--vhost", vhost, user, *may) if user in self.passwords and vhost in self.vhosts:
                self.permissions[vhost, user] = tuple(may)
            case ("set_topic_permissions", "--vhost", vhost, user, exchange, *may) if user in self.passwords:
                self.topics[vhost, user, exchange] = tuple(may)
            case _:
                raise ProvisioningFailed(f"rabbitmqctl {arguments[0]}: refused")
        return ""

    def succeeds(self, *arguments: str, stdin: str = "") -> bool:
        assert arguments[0] == "authenticate_user"
        return self.passwords[arguments[1]] == stdin

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        match arguments:
            case ("list_vhosts", "name"):
                return [{"name": vhost} for vhost in self.vhosts]
            case ("list_users",):
                return [{"user": user, "tags": self.tags[user]} for user in self.passwords]
            case ("list_user_permissions", user):
                names = ("configure", "write", "read")
                found = [(vhost, may) for (vhost, whose), may in self.permissions.items() if whose == user]
                return [{"vhost": vhost, **dict(zip(names, may, strict=True))} for vhost, may in found]
            case ("list_user_topic_permissions", user):
                topics = [(vhost, where, may) for (vhost, whose, where), may in self.topics.items() if whose == user]
                return [
                    {"vhost": vhost, "exchange": where, "write": may[0], "read": may[1]} for vhost, where, may in topics
                ]
            case _:
                raise AssertionError(arguments)
