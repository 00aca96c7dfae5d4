# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands of the control queue: answered at once, or by threads of their own where somebody has to be asked."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Protocol, assert_never
from uuid import UUID

import structlog
from structlog.contextvars import bound_contextvars

from storpool_agent import dispatch, draining, logs, metrics, picture, status, tracing
from storpool_agent.deadline import Deadline
from storpool_agent.drift_watch import DriftWatch
from storpool_agent.errors import AgentError, TooLate, UnknownRequest
from storpool_agent.explanation import Explanation
from storpool_agent.host import Host
from storpool_agent.job import Job, JobView
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.overview import Entry, Overview
from storpool_commands.catalogue import Result
from storpool_commands.control import (
    AgentStatus,
    CancelCommand,
    CancelledCommand,
    CommandDetails,
    CommandStatus,
    Drain,
    Drained,
    GetAgentStatus,
    GetDriftReport,
    JobProgress,
    Kept,
    ListAttachments,
    ListCommands,
    ListedAttachment,
    ListedAttachments,
    ListedCommands,
    LogLevelSet,
    Ping,
    ProcessStatus,
    QueriedCommand,
    QueryCommand,
    SetLogLevel,
)
from storpool_commands.envelope import ControlRequest, Failure, Success
from storpool_commands.errors import ErrorCode, retry_class
from storpool_commands.explaining import ExplainVolume

log = structlog.get_logger()

LOOK_TIMEOUT_S = 30.0
CHANGING = (CancelCommand, Drain, SetLogLevel)
"""Those that are asked for and ended in the log. Questions are not."""

Say = Callable[[Success | Failure], None]


class Gate(Protocol):
    """The way in for commands. Any thread may call it."""

    def pause(self, paused: Callable[[], None]) -> None: ...

    def resume(self) -> None: ...


class UnderWay(Protocol):
    """The requests that are accepted and not finished."""

    def under_way(self) -> Sequence[JobView]: ...

    def unfinished(self) -> Sequence[Job]: ...

    def steps(self, request_id: str) -> list[str]: ...

    def progress(self, request_id: str) -> JobProgress | None: ...

    def cancel(self, request_id: str) -> str | None: ...


class Worker(Protocol):
    """Who does what takes a while."""

    def put(self, work: Callable[[], None]) -> None: ...


class Control:
    """Any thread may call it, the consumer's too: nothing here keeps it waiting for StorPool or libvirt."""

    def __init__(
        self,
        host: Host,
        journal: Journal,
        overview: Overview,
        jobs: UnderWay,
        lane: Worker,
        drift: DriftWatch,
        state_dir: Path,
    ) -> None:
        """`lane` is for these commands alone: they must not wait behind attaches and copies."""
        self._host = host
        self._journal = journal
        self._overview = overview
        self._jobs = jobs
        self._lane = lane
        self._drift = drift
        self._state_dir = state_dir
        self.gate: Gate | None = None
        """Set before the first request comes."""
        self.process: Callable[[], ProcessStatus | None] = lambda: None
        """Likewise, when this is in an agent."""

    def answer(self, request: ControlRequest, say: Say, publisher: str | None = None) -> None:
        """Have the reply said once, whatever happens, in this thread or another."""
        reply = partial(self._reply, request, say, publisher)
        match request.body:
            case ListAttachments() | GetDriftReport() | GetAgentStatus() | ExplainVolume():
                self._lane.put(reply)
            case Drain(on=True):
                self._gate().pause(partial(self._lane.put, reply))
            case _:
                reply()

    def _reply(self, request: ControlRequest, say: Say, publisher: str | None) -> None:
        span = tracing.begin(request.traceparent)
        about = {"request": str(request.id), "command": request.body.command, "publisher": publisher}
        with tracing.within(span), bound_contextvars(**about):
            reply = self._outcome(request).model_copy(update={"traceparent": tracing.told(span)})
        metrics.control_answered(request.body.command, reply)
        say(reply)

    def _outcome(self, request: ControlRequest) -> Success | Failure:
        audited = isinstance(request.body, CHANGING)
        started = monotonic()
        try:
            result = self._handle(request)
        except AgentError as error:
            if audited:
                log.warning("failed", audit=True, code=error.code, reason=str(error), facts=error.facts)
            return self._failure(request, error.code, str(error), error)
        except Exception:
            log.exception("crashed", audit=True)
            message = f"a defect of the agent; its log has the details under request {request.id}"
            return self._failure(request, ErrorCode.INTERNAL, message)
        took_ms = round((monotonic() - started) * 1000, 3)
        if audited:
            log.info("done", audit=True, took_ms=took_ms)
        return Success(id=request.id, host=self._host.name, result=result, took_ms=took_ms)

    def _failure(
        self, request: ControlRequest, code: ErrorCode, message: str, error: AgentError | None = None
    ) -> Failure:
        return Failure(
            id=request.id,
            host=self._host.name,
            code=code,
            message=message,
            retry=retry_class(code),
            side_effects="none",
            facts=error.facts if error else {},
        )

    def _handle(self, request: ControlRequest) -> Result:  # noqa: C901, PLR0911 - a table
        command = request.body
        match command:
            case Ping():
                return dispatch.pong(self._host.name)
            case QueryCommand():
                return self._query(command)
            case ListCommands():
                entries = self._overview.entries(command.state, command.limit, command.id_prefix)
                return ListedCommands(commands=[self._status(entry) for entry in entries])
            case CancelCommand():
                return self._cancel(command)
            case ListAttachments():
                return self._attachments()
            case GetDriftReport():
                return self._drift.report()
            case Drain():
                return self._drain(command)
            case SetLogLevel():
                return _set_level(command)
            case GetAgentStatus():
                return self._agent_status()
            case ExplainVolume():
                deadline = Deadline.after(LOOK_TIMEOUT_S)
                jobs = self._jobs.under_way()
                return Explanation(self._host, self._journal, self._overview, jobs, deadline).of(command.volume)
            case _:
                assert_never(command)

    def _attachments(self) -> ListedAttachments:
        seen = picture.take(self._host, self._journal, Deadline.after(LOOK_TIMEOUT_S))
        return ListedAttachments(
            attachments=[
                ListedAttachment(
                    global_id=one.global_id,
                    snapshot=one.snapshot,
                    mode=one.mode,
                    path=seen.path(one.global_id),
                    vms=seen.machines(one.global_id),
                    vm_names=seen.machine_names(one.global_id),
                    device=device.node if (device := seen.device(one.global_id)) else None,
                    size_bytes=device.size_bytes if device else None,
                )
                for one in sorted(seen.here, key=lambda one: one.global_id)
            ]
        )

    def _drain(self, command: Drain) -> Drained:
        if command.on:
            drained = draining.drained(self._host, self._journal, self._jobs.unfinished())
        else:
            self._gate().resume()
            drained = Drained(draining=False, quiet=False, unfinished=len(self._jobs.unfinished()))
        log.info("drain", on=command.on, unfinished=drained.unfinished, quiet=drained.quiet)
        return drained

    def _gate(self) -> Gate:
        if self.gate is None:
            raise RuntimeError("the control commands are not connected to a consumer")
        return self.gate

    def _agent_status(self) -> AgentStatus:
        return status.take(self._host, self._overview, self._state_dir, dispatch.VERSION, self.process())

    def _query(self, command: QueryCommand) -> QueriedCommand:
        entry = self._entry(str(command.id))
        return QueriedCommand(
            status=self._status(entry),
            reply=dict(entry.reply) if entry.reply else None,
            details=self._details(entry) if command.details else None,
        )

    def _cancel(self, command: CancelCommand) -> CancelledCommand:
        entry = self._entry(str(command.id))
        outcome = self._jobs.cancel(str(command.id))
        if outcome is None:
            raise TooLate(f"request {entry.id} is finished; queryCommand has its reply", id=entry.id)
        return CancelledCommand(id=command.id, outcome="cancelled" if outcome == "cancelled" else "stopping")

    def _entry(self, request_id: str) -> Entry:
        entry = self._overview.entry(request_id)
        if entry is None:
            raise UnknownRequest(f"this host never accepted request {request_id}, or has forgotten it", id=request_id)
        return entry

    def _status(self, entry: Entry) -> CommandStatus:
        return CommandStatus.model_validate(
            {
                "id": entry.id,
                "bodyCommand": entry.command,
                "state": entry.state,
                "receivedAt": datetime.fromtimestamp(entry.received_at, UTC),
                "attempts": entry.attempts,
                "steps": self._jobs.steps(entry.id),
                "progress": self._jobs.progress(entry.id),
                "objects": entry.objects,
                "finishedAt": datetime.fromtimestamp(entry.finished_at, UTC) if entry.finished_at else None,
                "outcome": (entry.reply or {}).get("status"),
                "code": (entry.reply or {}).get("code"),
            },
            strict=False,
        )

    def _details(self, entry: Entry) -> CommandDetails:
        waits_for = [each for view in self._jobs.under_way() if view.id == entry.id for each in view.waits_for]
        return CommandDetails(
            request=dict(entry.request) if entry.request else None,
            publisher=entry.publisher,
            reply_to=list(entry.reply_to),
            unsent_replies=self._overview.unsent(entry.id),
            shared=entry.shared,
            stops=entry.stops,
            notes=[Kept(kind=kind, target=target) for kind, target in self._overview.notes(entry.id)],
            temporaries=[Kept(kind=kind, target=target) for kind, target in self._overview.temporaries_of(entry.id)],
            waits_for=[UUID(each) for each in waits_for],
        )


def _set_level(command: SetLogLevel) -> LogLevelSet:
    before = logs.present_level()
    log.warning("log level set", before=before, after=command.level)
    logs.set_level(command.level)
    return LogLevelSet(before=before, after=command.level)
