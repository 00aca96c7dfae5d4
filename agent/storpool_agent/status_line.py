# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The line that `systemctl status` shows: how the agent is, in one sentence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from storpool_agent.notify import notify


@dataclass(frozen=True)
class Facts:
    """What the sentence is made of."""

    host: str
    running: int
    """Commands but copies."""
    queued: int
    """Commands and copies that wait for their turn."""
    oldest_s: float
    """How long the oldest of those has waited."""
    copies: Sequence[int | None]
    """Of each copy that runs, how many percent of its phase are done, where that is known."""
    connected: bool
    """To the broker, both ways."""
    draining: bool
    troubles: Sequence[str]
    """What somebody has to look at, in a few words each."""


def sentence(facts: Facts, waiting_since: datetime | None) -> str:
    """`waiting_since`: when the broker was last seen; None: at no time."""
    begin = f"{facts.host} is drained and takes no commands" if facts.draining else f"serving {facts.host}"
    parts = [*facts.troubles, *_work(facts), _broker(facts, waiting_since)]
    return f"{begin}: {', '.join(parts)}"


def _work(facts: Facts) -> list[str]:
    parts = [_count(facts.running, "command") + " running"] if facts.running or not facts.copies else []
    if facts.copies:
        percent = ", ".join("begun" if one is None else f"{one} %" for one in facts.copies)
        parts.append(f"{_count(len(facts.copies), 'copy', 'copies')} ({percent})")
    if facts.queued:
        parts.append(f"{facts.queued} queued (the oldest for {_age(facts.oldest_s)})")
    return parts


def _broker(facts: Facts, waiting_since: datetime | None) -> str:
    if facts.connected:
        return "broker connected"
    return "waiting for the broker" + (f" since {waiting_since:%H:%M}" if waiting_since else "")


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _age(seconds: float) -> str:
    """Coarse, so that the sentence does not change every second."""
    if seconds < 60:
        return "less than a minute"
    return f"{seconds // 60:.0f} min" if seconds < 7200 else f"{seconds // 3600:.0f} h"


class StatusLine:
    """Tells systemd when the sentence has become another one. For the main thread, which looks once a second."""

    def __init__(
        self, read: Callable[[], Facts], now: Callable[[], datetime], tell: Callable[[str], None] = notify
    ) -> None:
        """`now` is local time: the sentence is for a person at the host."""
        self._read = read
        self._now = now
        self._tell = tell
        self._told = ""
        self._waiting_since: datetime | None = None

    def look(self) -> str:
        """The sentence as it is now."""
        facts = self._read()
        if facts.connected:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self._now()
        said = sentence(facts, self._waiting_since)
        if said != self._told:
            self._told = said
            self._tell(f"STATUS={said}")
        return said
