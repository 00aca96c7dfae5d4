# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What copy jobs could not take away when they ended: tried again until it is gone."""

from threading import Event, Thread

import structlog
from structlog.contextvars import bound_contextvars

from storpool_agent import liveness, tracing
from storpool_agent.errors import AgentError
from storpool_agent.handlers import temporaries
from storpool_agent.host import Host
from storpool_agent.interrupt import AgentStopping, Interrupt
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.temporaries import Temporary

log = structlog.get_logger()

AGAIN_S = 60.0
"""How soon what could not be taken away is tried again: StorPool or a server may be away for a while."""


class Leftovers:
    """One thread, which sleeps as long as nothing is left."""

    def __init__(self, host: Host, journal: Journal, jobs: Jobs) -> None:
        self._host = host
        self._journal = journal
        self._jobs = jobs
        self._woken = Event()
        self._interrupt = Interrupt()
        self._thread = Thread(target=self._run, name="leftovers")
        jobs.on_copy_end(self._woken.set)

    def start(self) -> None:
        """Look at once: an earlier run of the agent may have left something."""
        self._woken.set()
        self._thread.start()

    def stop(self) -> None:
        """Whoever has what is to be taken away may have it for long: that is not waited for."""
        self._interrupt.set(AgentStopping())
        self._woken.set()
        self._thread.join()
        self._interrupt.close()

    def _run(self) -> None:
        """It waits for StorPool and for servers when it does not wait for something to do."""
        some_left = False
        with liveness.registry.loop("leftovers") as loop:
            loop.waits()
            while self._interrupt.reason is None:
                self._woken.wait(AGAIN_S if some_left else None)
                self._woken.clear()
                some_left = self._look()

    def _look(self) -> bool:
        """Whether anything is left to be taken away."""
        try:
            left = self._journal.temporaries.left()
            for one in temporaries.in_order(left):
                if self._interrupt.reason is None:
                    self._take_away(one)
            self._host.secondary.sweep()
            return bool(left and self._journal.temporaries.left())
        except AgentError as error:
            log.warning("leftovers not read", reason=str(error))
            return True

    def _take_away(self, one: Temporary) -> None:
        span = tracing.begin(self._journal.traceparent(one.command))
        with tracing.within(span), bound_contextvars(request=one.command):
            try:
                temporaries.take_away(one, self._host, self._journal.temporaries, self._jobs.turns(self._interrupt))
            except AgentStopping:
                return
            except AgentError as error:
                log.warning("leftover kept", kind=one.kind, target=one.target, owner=one.command, reason=str(error))
            except Exception:
                log.exception("crashed", kind=one.kind, target=one.target)
            else:
                log.info("leftover gone", kind=one.kind, target=one.target, owner=one.command)
