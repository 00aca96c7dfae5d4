# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What goes out: from the journal's outbox to the broker, until it is confirmed."""

import threading
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import structlog

from storpool_agent import liveness
from storpool_agent.bus.publisher import Message
from storpool_agent.crash import crash_point
from storpool_agent.errors import JournalUnavailable
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.outgoing import Outgoing

log = structlog.get_logger()

SETTLE_S = 0.2
"""How long confirms are gathered before they are written; a crash in between publishes a reply twice."""
RETRY_S = 1.0
"""How often what was refused is looked at again."""


class Publishes(Protocol):
    """The way to the broker."""

    def publish(self, *messages: Message) -> None: ...


class Outbox:
    """Keeps what the broker has not confirmed, and tries again what it refused. Any thread may call `send`."""

    def __init__(self, journal: Journal, publisher: Publishes) -> None:
        self._journal = journal
        self._publisher = publisher
        self._mutex = threading.Lock()
        self._under_way: set[int] = set()
        self._confirmed: list[Outgoing] = []
        self._postponed = False
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox")

    def start(self) -> None:
        """Send what an earlier run of the agent has left."""
        self.send(self._journal.outgoing.due())
        self._postponed = self._journal.outgoing.has_postponed()
        self._thread.start()

    def stop(self) -> None:
        """What is not confirmed stays in the journal."""
        self._stopping.set()
        self._changed.set()
        self._thread.join()

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Publish; each message is in the journal already."""
        with self._mutex:
            fresh = [one for one in messages if one.seq not in self._under_way]
            self._under_way.update(one.seq for one in fresh)
        if fresh:
            self._publisher.publish(*(self._message(one) for one in fresh))

    def _message(self, outgoing: Outgoing) -> Message:
        return Message(
            exchange=outgoing.exchange,
            routing_key=outgoing.routing_key,
            message_id=outgoing.message_id,
            body=outgoing.body,
            mandatory=bool(outgoing.mandatory),
            confirmed=partial(self._on_confirmed, outgoing),
            refused=partial(self._on_refused, outgoing),
        )

    def _on_confirmed(self, outgoing: Outgoing) -> None:
        crash_point("reply/confirmed")
        with self._mutex:
            self._confirmed.append(outgoing)
        self._changed.set()

    def _on_refused(self, outgoing: Outgoing, _reason: str) -> None:
        self._journal.outgoing.postpone(outgoing)
        self._postponed = True
        with self._mutex:
            self._under_way.discard(outgoing.seq)
        self._changed.set()

    def _run(self) -> None:
        last = False
        with liveness.registry.loop("outbox") as loop:
            while not last:
                loop.waits()
                self._changed.wait(RETRY_S if self._postponed else None)
                self._changed.clear()
                last = self._stopping.wait(SETTLE_S)
                loop.turns()
                self._look()

    def _look(self) -> None:
        try:
            self._settle()
        except JournalUnavailable as error:
            log.error("outbox not written", reason=str(error))  # noqa: TRY400 - one line, for the admin
            self._changed.set()
            self._stopping.wait(RETRY_S)

    def _settle(self) -> None:
        self._forget_confirmed()
        self._journal.outgoing.flush()
        if self._postponed:
            self._postponed = self._journal.outgoing.has_postponed()
            self.send(self._journal.outgoing.due())

    def _forget_confirmed(self) -> None:
        with self._mutex:
            seqs = [one.seq for one in self._confirmed]
        if seqs:
            self._journal.outgoing.confirmed(seqs)
        with self._mutex:
            del self._confirmed[: len(seqs)]
            self._under_way.difference_update(seqs)
