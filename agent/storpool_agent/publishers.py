# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who may command this host, and what."""

from collections.abc import Mapping, Sequence

from storpool_agent.settings import EVERYTHING
from storpool_commands.catalogue import Command, ControlCommand
from storpool_commands.classes import class_of

Grants = Mapping[str, Sequence[str]]
"""Broker user -> classes and names of commands."""


class Publishers:
    """The settings' word on it. Broker users are taken from `user_id`, which the broker verifies.

    A routing key proves nothing: on RabbitMQ 3.10 the headers CC and BCC pass its checks of topics.
    """

    def __init__(self, allowed: Grants | None) -> None:
        """None: everyone whom the broker lets publish may send everything."""
        self._allowed = None if allowed is None else {user: frozenset(grants) for user, grants in allowed.items()}

    def refuse_stranger(self, publisher: str | None) -> str | None:
        """Why nothing is taken from this publisher, whatever it sends; None when something may be."""
        if self._allowed is None or publisher in self._allowed:
            return None
        who = publisher or "somebody who set no user_id"
        return f"{who} may not command this host; allowed_publishers has who may"

    def refuse(self, publisher: str | None, command: Command | ControlCommand) -> str | None:
        """Why this command is not taken from this publisher; None when it is."""
        if stranger := self.refuse_stranger(publisher):
            return stranger
        granted = (self._allowed or {}).get(publisher or "", {EVERYTHING})
        if granted & {EVERYTHING, class_of(command), command.command}:
            return None
        may = ", ".join(sorted(granted))
        return f"{publisher} may not send {command.command} to this host; allowed_publishers has what it may: {may}"
