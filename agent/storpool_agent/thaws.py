# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Guests that a command has frozen are thawed in time: also when it hangs, also by a later run of the agent."""

from threading import Event, Lock, Thread
from time import time

import structlog
from structlog.contextvars import bound_contextvars

from storpool_agent import retry
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Domain
from storpool_agent.errors import AgentError, JournalUnavailable
from storpool_agent.host import Domains
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.thaws import PendingThaw

log = structlog.get_logger()

THAW_TIMEOUT_S = 8.0
"""For one try: libvirt gives an agent that does not answer up after 5 s."""
START_PATIENCE_S = 10.0
"""How long the start waits for what was left frozen, before it runs commands besides."""


class Thaws:
    """One thread for each guest, as long as it may be frozen: none is kept waiting by another."""

    def __init__(self, domains: Domains, journal: Journal) -> None:
        self._domains = domains
        self._journal = journal
        self._stopping = Event()
        self._guard = Lock()
        self._watchers: set[Thread] = set()
        journal.thaws.on_expected(self._expect)

    def start(self) -> None:
        """Thaw what an earlier run has left, before anything else runs. What takes longer goes on beside it."""
        watchers = [self._watch(pending, 0) for pending in self._journal.thaws.pending()]
        give_up = Deadline.after(START_PATIENCE_S)
        for watcher in watchers:
            watcher.join(give_up.remaining_s)

    def stop(self) -> None:
        """Thaw what is still frozen, once; what cannot be is left to the next start."""
        self._stopping.set()
        with self._guard:
            watchers = tuple(self._watchers)
        for watcher in watchers:
            watcher.join()

    def _expect(self, pending: PendingThaw) -> None:
        self._watch(pending, pending.thaw_at - time())

    def _watch(self, pending: PendingThaw, within_s: float) -> Thread:
        watcher = Thread(target=self._run, args=(pending, Deadline.after(within_s)), name=f"thaw/{pending.vm[:8]}")
        with self._guard:
            self._watchers = {one for one in self._watchers if one.is_alive()} | {watcher}
            watcher.start()
        return watcher

    def _run(self, pending: PendingThaw, due: Deadline) -> None:
        self._stopping.wait(due.remaining_s)
        if not self._is_pending(pending):
            return
        with bound_contextvars(vm=pending.vm, request=pending.command):
            try:
                held = retry.until_stopped(self._stopping)(self._thaw, pending)
            except AgentError as error:
                log.error("guest not thawed", reason=str(error))  # noqa: TRY400 - one line, for the admin
                return
            log.warning("guest thawed", held=held)
            self._forget(pending)

    def _is_pending(self, pending: PendingThaw) -> bool:
        """To thaw a guest once too often does no harm."""
        try:
            return self._journal.thaws.of(pending.vm) == pending
        except JournalUnavailable:
            return True

    def _thaw(self, pending: PendingThaw) -> bool:
        """By its UUID alone: a machine that is off or gone by now is not frozen."""
        machine = Domain(uuid=pending.vm, name=pending.vm, running=True, persistent=False)
        return self._domains.thaw(machine, Deadline.after(THAW_TIMEOUT_S))

    def _forget(self, pending: PendingThaw) -> None:
        try:
            self._journal.thaws.settle(pending)
        except JournalUnavailable as error:
            log.warning("thaw not forgotten", reason=str(error))
