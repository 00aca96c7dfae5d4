# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Guests that let go of a disk later than asked: their detach is finished, also by a later run of the agent."""

import queue
from datetime import UTC, datetime
from functools import partial
from threading import Thread
from uuid import uuid4

import structlog

from storpool_agent import liveness, tracing
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, VolumeNotFound
from storpool_agent.handlers import labelling
from storpool_agent.host import Host
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.unplugs import PendingUnplug
from storpool_agent.locks import volume_key
from storpool_agent.outbox import Outbox
from storpool_commands import topology
from storpool_commands.envelope import Event
from storpool_commands.labels import LUKS
from storpool_commands.references import Reference

log = structlog.get_logger()

FALLBACK_S = 30.0
"""How often a pending unplug is looked at without an event: a restart of libvirtd loses events."""
FINISH_TIMEOUT_S = 60.0
DETACHED = "attachment.detached"


class Unplugs:
    """An event is a reason to look, never the proof: that is the machine's XML."""

    def __init__(self, host: Host, journal: Journal, jobs: Jobs, outbox: Outbox) -> None:
        self._host = host
        self._journal = journal
        self._jobs = jobs
        self._outbox = outbox
        self._wakes: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stopped = False
        self._thread = Thread(target=self._run, name="unplugs")

    def start(self) -> None:
        """Look at once: a guest may have let go while no agent ran."""
        self._thread.start()
        self.wake(None)

    def stop(self) -> None:
        self._stopped = True
        self.wake(None)
        self._thread.join()

    def wake(self, vm: str | None) -> None:
        """The disks of a machine, or of any, may have changed. Returns at once; any thread may call this."""
        self._wakes.put(vm)

    def _run(self) -> None:
        waiting = True
        with liveness.registry.loop("unplugs") as loop:
            while not self._stopped:
                loop.waits()
                try:
                    vm = self._wakes.get(timeout=FALLBACK_S if waiting else None)
                except queue.Empty:
                    vm = None
                loop.turns()
                if not self._stopped:
                    waiting = self._look(vm)

    def _look(self, vm: str | None) -> bool:
        """Have each pending unplug looked at in its turn; true if there are any."""
        try:
            pending = self._journal.unplugs.pending(vm)
            for one in pending:
                keys = frozenset({volume_key(one.global_id), f"vm:{one.vm}"})
                self._jobs.alongside(keys, partial(self._settle, one))
            return bool(pending or self._journal.unplugs.pending())
        except AgentError as error:
            log.warning("pending unplugs not read", reason=str(error))
            return True

    def _settle(self, pending: PendingUnplug) -> None:
        try:
            span = tracing.begin(self._journal.traceparent(pending.command))
            with tracing.within(span):
                self._finish(pending, tracing.told(span))
        except AgentError as error:
            log.warning("unplug not finished", volume=pending.global_id, vm=pending.vm, reason=str(error))
        except Exception:
            log.exception("crashed", volume=pending.global_id, vm=pending.vm)

    def _finish(self, pending: PendingUnplug, traceparent: str | None) -> None:
        """Detach what the guest has let go of. In the volume's turn, so that no newer command is overtaken."""
        if self._journal.unplugs.of(pending.global_id) != pending:
            return
        deadline = Deadline.after(FINISH_TIMEOUT_S)
        try:
            volume = self._host.storpool.volume(Reference("id", pending.global_id), deadline)
        except VolumeNotFound:
            self._journal.unplugs.settle(pending.global_id)
            return
        links = self._host.devices.links(volume.global_id, volume.name)
        if any(disk.live for disk in self._host.domains.having(links, deadline)):
            return
        device = self._host.devices.look(volume.global_id)
        self._host.storpool.detach(volume, deadline)
        self._host.devices.wait_gone(volume.global_id, device, deadline)
        if LUKS in volume.tags:
            self._host.domains.forget_secret(volume.global_id, deadline)
        labelling.remove(volume, pending.vm, self._host.storpool)
        event = self._event(pending, traceparent).model_dump_json(by_alias=True).encode()
        outgoing = self._journal.unplugs.settle(pending.global_id, DETACHED, event)
        log.info("detached late", volume=pending.global_id, vm=pending.vm, request=pending.command)
        if outgoing is not None:
            self._outbox.send([outgoing])

    def _event(self, pending: PendingUnplug, traceparent: str | None) -> Event:
        return Event(
            id=str(uuid4()),
            source=f"/hosts/{self._host.name}",
            type=topology.event_type(DETACHED),
            time=datetime.now(UTC),
            subject=pending.global_id,
            traceparent=traceparent,
            data={"volume": pending.global_id, "vm": pending.vm, "request": pending.command},
        )
