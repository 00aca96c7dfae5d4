# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Migrations that were neither finished nor rolled back in time: told once, and never acted on by guess."""

from datetime import UTC, datetime
from threading import Event as Signal
from threading import Thread
from uuid import uuid4

import structlog

from storpool_agent import liveness
from storpool_agent.errors import JournalUnavailable
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.migrations import Ticket
from storpool_agent.outbox import Outbox
from storpool_commands import topology
from storpool_commands.envelope import Event

LOOK_S = 15.0
"""Not a timer for the next expiry: that is by the wall clock, which may be set meanwhile."""
EXPIRED = "migration.expired"

log = structlog.get_logger()


class Overdue:
    """One thread. A ticket that expired while no agent ran is told at the next start."""

    def __init__(self, host: str, journal: Journal, outbox: Outbox) -> None:
        self._host = host
        self._journal = journal
        self._outbox = outbox
        self._stopping = Signal()
        self._thread = Thread(target=self._run, name="overdue")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with liveness.registry.loop("overdue") as loop:
            loop.waits()
            while not self._stopping.wait(LOOK_S):
                loop.turns()
                self.look()
                loop.waits()

    def look(self) -> None:
        """Tell of each that has expired since. Raises nothing."""
        try:
            for ticket in self._journal.tickets.unreported():
                self._tell(ticket)
        except JournalUnavailable as error:
            log.warning("migrations not read", reason=str(error))
        except Exception:
            log.exception("crashed")

    def _tell(self, ticket: Ticket) -> None:
        body = self._event(ticket).model_dump_json(by_alias=True).encode()
        outgoing = self._journal.tickets.report(ticket, topology.event_key(self._host, EXPIRED), body)
        log.warning(
            "migration expired",
            migration=ticket.migration,
            vm=ticket.vm,
            name=ticket.name,
            role=ticket.role,
            peer=ticket.peer,
            volumes=[disk.global_id for disk in ticket.disks],
        )
        self._outbox.send([outgoing])

    def _event(self, ticket: Ticket) -> Event:
        return Event(
            id=str(uuid4()),
            source=f"/hosts/{self._host}",
            type=topology.event_type(EXPIRED),
            time=datetime.now(UTC),
            subject=ticket.vm,
            data=ticket.seen.model_dump(mode="json", by_alias=True),
        )
