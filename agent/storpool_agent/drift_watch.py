# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Looks every few minutes where StorPool, the kernel and libvirt do not agree, and tells when that has changed."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import structlog

from storpool_agent import drift, liveness, picture
from storpool_agent.bus.publisher import Message
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError
from storpool_agent.host import Host
from storpool_agent.journal.journal import Journal
from storpool_agent.outbox import Publishes
from storpool_commands import topology
from storpool_commands.control import Drift, DriftReport
from storpool_commands.envelope import Event

LOOK_TIMEOUT_S = 30.0
FIRST_S = 10.0
"""After a boot libvirt and StorPool may come up with the agent."""
STOP_S = 1.0
"""A look that hangs is not waited for: it changes nothing."""
DRIFT = "drift"

log = structlog.get_logger()


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DriftWatch:
    """What was seen in two complete looks counts; a look that fails says nothing. Any thread may read the findings."""

    def __init__(
        self,
        host: Host,
        journal: Journal,
        publisher: Publishes,
        interval_s: float,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`interval_s`: 0 looks never, but when it is asked."""
        self._host = host
        self._journal = journal
        self._publisher = publisher
        self._interval_s = interval_s
        self._now = now
        self._mutex = threading.Lock()
        self._seen: Sequence[Drift] | None = None
        """All of the last complete look, each with when it was seen first."""
        self._told = False
        self._failure: str | None = None
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=DRIFT, daemon=True)
        self.findings: Sequence[Drift] = ()
        self.scanned_at: datetime | None = None
        """When the last complete look was begun; None before the first."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._woken.set()
        self._thread.join(STOP_S)

    def pace(self, interval_s: float) -> None:
        """Look this often from now on."""
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._woken.set()

    def report(self) -> DriftReport:
        """Two looks, now. Raises the AgentErrors of StorPool, libvirt and the journal."""
        deadline = Deadline.after(LOOK_TIMEOUT_S)
        at, found = self._look(deadline)
        lasting = self._compare(at, found)
        if found:
            at, found = self._look(deadline)
            lasting = self._compare(at, found)
        return DriftReport(scanned_at=at, drifts=list(lasting))

    def _run(self) -> None:
        """It waits for StorPool and libvirt when it does not wait for its time."""
        with liveness.registry.loop(DRIFT) as loop:
            loop.waits()
            self._woken.wait(min(self._interval_s, FIRST_S) or None)
            while not self._stopping:
                self._woken.clear()
                if self._interval_s:
                    self.scan()
                self._woken.wait(self._interval_s or None)

    def scan(self) -> None:
        """One look, compared with the one before."""
        try:
            at, found = self._look(Deadline.after(LOOK_TIMEOUT_S))
        except AgentError as error:
            if str(error) != self._failure:
                self._failure = str(error)
                log.warning("drift not looked for", reason=str(error))
            return
        except Exception:
            log.exception("crashed")
            return
        self._failure = None
        self._compare(at, found)

    def _look(self, deadline: Deadline) -> tuple[datetime, list[Drift]]:
        at = self._now()
        return at, drift.drifts(picture.take(self._host, self._journal, deadline), at)

    def _compare(self, at: datetime, found: Sequence[Drift]) -> Sequence[Drift]:
        """What this look and the one before both saw; told when it is something else than before."""
        with self._mutex:
            before, earlier = self.findings, self._seen
            lasting = drift.lasting(earlier or (), found)
            known = {drift.identity(one): one for one in lasting}
            self._seen = [known.get(drift.identity(one), one) for one in found]
            self.findings, self.scanned_at = tuple(lasting), at
        changed = _log_changes(before, lasting)
        if earlier is not None and (changed or not self._told):
            self._told = True
            self._publish(at, lasting)
        return lasting

    def _publish(self, at: datetime, findings: Sequence[Drift]) -> None:
        """Once after each start, too: what has changed meanwhile nobody has told."""
        report = DriftReport(scanned_at=at, drifts=list(findings))
        event = Event(
            id=str(uuid4()),
            source=f"/hosts/{self._host.name}",
            type=topology.event_type(DRIFT),
            time=self._now(),
            subject=self._host.name,
            data=report.model_dump(mode="json", by_alias=True, exclude={"command"}),
        )
        key = topology.event_key(self._host.name, DRIFT)
        self._publisher.publish(Message(topology.EVENTS, key, event.id, event.model_dump_json(by_alias=True).encode()))


def _log_changes(before: Sequence[Drift], after: Sequence[Drift]) -> bool:
    """Whether there are any."""
    old, new = ({drift.identity(one): one for one in some} for some in (before, after))
    for identity, one in new.items():
        if identity not in old:
            log.warning(
                "drift found",
                kind=one.kind,
                volume=one.global_id,
                path=one.path,
                vm=one.vm,
                detail=one.detail,
                evidence=one.evidence,
                repair=one.repair,
            )
    for identity, one in old.items():
        if identity not in new:
            log.info("drift gone", kind=one.kind, volume=one.global_id, path=one.path, vm=one.vm)
    return old.keys() != new.keys()
