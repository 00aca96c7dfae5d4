# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How a machine stands here and on the other host of its migration, and what each of them says of it."""

from dataclasses import dataclass

from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Presence
from storpool_agent.errors import AgentError
from storpool_agent.handlers.verdicts import Verdict, judge
from storpool_agent.host import Host
from storpool_agent.journal.migrations import Ticket
from storpool_agent.migration_errors import MigrationUnknown

LOOK_S = 20.0


@dataclass(frozen=True)
class Sight:
    """One look from the source at both."""

    here: Presence | AgentError
    there: Presence | AgentError
    here_again: Presence | AgentError
    """So that what was seen there was there while this was here: another request may move the machine meanwhile."""

    def judge(self, *, has_moved: bool) -> Verdict:
        here, there, again = (None if isinstance(one, AgentError) else one for one in self._all)
        if here is None or again is None or here.standing != again.standing:
            return Verdict.WAIT
        return judge(again, there, has_moved=has_moved)

    def unknown(self, ticket: Ticket, host: Host, what: str) -> MigrationUnknown:
        """What each host says, for who has to decide."""
        ours, theirs = said(self.here_again), said(self.there)
        return MigrationUnknown(
            f"{what}: on {host.name} machine {ticket.name} is {ours}; on {ticket.peer} it is {theirs}",
            migration=ticket.migration,
            vm=ticket.vm,
            source=host.name,
            destination=ticket.peer,
            on_source=ours,
            on_destination=theirs,
        )

    @property
    def trouble(self) -> AgentError | None:
        """Why one of the two was not seen."""
        return next((one for one in self._all if isinstance(one, AgentError)), None)

    @property
    def _all(self) -> tuple[Presence | AgentError, Presence | AgentError, Presence | AgentError]:
        return self.here, self.there, self.here_again


def look(ticket: Ticket, host: Host, within_s: float = LOOK_S) -> Sight:
    """Raises nothing: who does not answer is part of what is seen."""
    deadline = Deadline.after(within_s)
    here = _seen(ticket.vm, None, host, deadline)
    there = _seen(ticket.vm, ticket.peer, host, deadline)
    return Sight(here, there, _seen(ticket.vm, None, host, deadline))


def look_there(ticket: Ticket, host: Host, within_s: float = LOOK_S) -> Sight:
    """At a machine whose QEMU has ended here, whatever libvirt says of it yet."""
    here = Presence("off", "its QEMU has ended")
    return Sight(here, _seen(ticket.vm, ticket.peer, host, Deadline.after(within_s)), here)


def said(seen: Presence | AgentError) -> str:
    """In words."""
    return f"not known ({seen})" if isinstance(seen, AgentError) else str(seen)


def _seen(vm: str, peer: str | None, host: Host, deadline: Deadline) -> Presence | AgentError:
    try:
        return host.domains.standing(vm, deadline, peer=peer)
    except AgentError as error:
        return error
