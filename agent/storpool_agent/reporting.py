# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Progress of running copies, for who has asked for it and for who listens to events. None of it is kept."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from threading import Event, Thread
from time import monotonic
from uuid import uuid4

import structlog

from storpool_agent import liveness, tracing
from storpool_agent.bus.publisher import Message
from storpool_agent.errors import JournalUnavailable
from storpool_agent.job import Job
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Journal
from storpool_agent.outbox import Publishes
from storpool_commands import envelope, topology
from storpool_commands.control import JobProgress

log = structlog.get_logger()

PUBLISH_S = 1.0
"""How often what has moved is told."""
ALIVE_S = 5.0
"""How often a copy that has not moved is told of, too: a sender that hears nothing for longer has lost its host."""


class Reporting:
    """One thread, which sleeps as long as nothing is copied."""

    def __init__(
        self, host: str, jobs: Jobs, journal: Journal, publisher: Publishes, connected: Callable[[], bool]
    ) -> None:
        """While there is no connection nothing is said: what is published then is kept, and comes too late."""
        self._host = host
        self._jobs = jobs
        self._journal = journal
        self._publisher = publisher
        self._connected = connected
        self._begun = Event()
        self._stopping = Event()
        self._told: dict[str, tuple[float, JobProgress]] = {}
        self._thread = Thread(target=self._run, name="progress")
        jobs.on_copy(self._begun.set)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._begun.set()
        self._thread.join()

    def _run(self) -> None:
        with liveness.registry.loop("progress") as loop:
            while not self._stopping.is_set():
                loop.waits()
                self._begun.wait()
                self._begun.clear()
                while (running := self._jobs.copies()) and not self._stopping.is_set():
                    loop.turns()
                    self._tell_all(running)
                    self._stopping.wait(PUBLISH_S)

    def _tell_all(self, running: Sequence[Job]) -> None:
        self._told = {id_: told for id_, told in self._told.items() if id_ in {_id(job) for job in running}}
        if self._connected():
            for job in running:
                self._tell(job)

    def _tell(self, job: Job) -> None:
        reading = job.meter.read()
        if reading is None:
            return
        at, before = self._told.get(_id(job), (0.0, None))
        moved = before is None or (reading.phase, reading.bytes_done) != (before.phase, before.bytes_done)
        if not moved and monotonic() - at < ALIVE_S:
            return
        self._told[_id(job)] = (monotonic(), reading)
        self._publisher.publish(*self._messages(job, reading))

    def _messages(self, job: Job, reading: JobProgress) -> list[Message]:
        messages = [self._event(job, reading)]
        if job.request.progress:
            span = tracing.told(job.span)
            sign = envelope.Progress(id=job.request.id, host=self._host, traceparent=span, **reading.model_dump())
            body = sign.model_dump_json(by_alias=True).encode()
            for word in self._asking(job):
                key = topology.reply_key(self._host, word)
                messages.append(Message(topology.REPLIES, key, str(uuid4()), body, _id(job)))
        return messages

    def _event(self, job: Job, reading: JobProgress) -> Message:
        name = topology.progress_event(job.request.body.command)
        event = envelope.Event(
            id=str(uuid4()),
            source=f"/hosts/{self._host}",
            type=topology.event_type(name),
            time=datetime.now(UTC),
            subject=_id(job),
            traceparent=tracing.told(job.span),
            data=reading.model_dump(by_alias=True),
        )
        key = topology.event_key(self._host, name)
        return Message(topology.EVENTS, key, event.id, event.model_dump_json(by_alias=True).encode())

    def _asking(self, job: Job) -> list[str]:
        try:
            return self._journal.asking(_id(job))
        except JournalUnavailable as error:
            log.warning("progress not sent", request=_id(job), reason=str(error))
            return []


def _id(job: Job) -> str:
    return str(job.request.id)
