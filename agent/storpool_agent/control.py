# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands of the control queue: answered at once, or by threads of their own where somebody has to be asked."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Protocol, assert_never

import structlog
from structlog.contextvars import bound_contextvars

from storpool_agent import dispatch, draining, logs, metrics, picture, tracing
from storpool_agent.deadline import Deadline
from storpool_agent.drift_watch import DriftWatch
from storpool_agent.errors import AgentError, TooLate, UnknownRequest
from storpool_agent.host import Host
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Journal, Record
from storpool_agent.lanes import Lane
from storpool_commands.catalogue import Result
from storpool_commands.control import (
    CancelCommand,
    CancelledCommand,
    CommandStatus,
    Drain,
    Drained,
    GetDriftReport,
    ListAttachments,
    ListCommands,
    ListedAttachment,
    ListedAttachments,
    ListedCommands,
    LogLevelSet,
    Ping,
    QueriedCommand,
    QueryCommand,
    SetLogLevel,
)
from storpool_commands.envelope import ControlRequest, Failure, Success
from storpool_commands.errors import ErrorCode, retry_class

log = structlog.get_logger()

LOOK_TIMEOUT_S = 30.0
CHANGING = (CancelCommand, Drain, SetLogLevel)
"""Those that are asked for and ended in the log. Questions are not."""

Say = Callable[[Success | Failure], None]


class Gate(Protocol):
    """The way in for commands."""

    def pause(self, paused: Callable[[], None]) -> None: ...

    def resume(self) -> None: ...


class Control:
    """Called by the consumer's thread, which nothing here keeps waiting for StorPool or libvirt."""

    def __init__(self, host: Host, journal: Journal, jobs: Jobs, lane: Lane, drift: DriftWatch) -> None:
        """`lane` is for these commands alone: they must not wait behind attaches and copies."""
        self._host = host
        self._journal = journal
        self._jobs = jobs
        self._lane = lane
        self._drift = drift
        self.gate: Gate | None = None
        """Set before the first request comes."""
        self.draining = False

    def answer(self, request: ControlRequest, say: Say, publisher: str | None = None) -> None:
        """Have the reply said once, whatever happens, in this thread or another."""
        reply = partial(self._reply, request, say, publisher)
        match request.body:
            case ListAttachments() | GetDriftReport():
                self._lane.put(reply)
            case Drain(on=True):
                self.draining = True
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

    def _handle(self, request: ControlRequest) -> Result:  # noqa: PLR0911 - a table
        command = request.body
        match command:
            case Ping():
                return dispatch.pong(self._host.name)
            case QueryCommand():
                return self._query(command)
            case ListCommands():
                records = self._journal.records(command.state, command.limit)
                return ListedCommands(commands=[self._status(record) for record in records])
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
                )
                for one in sorted(seen.here, key=lambda one: one.global_id)
            ]
        )

    def _drain(self, command: Drain) -> Drained:
        if command.on:
            drained = draining.drained(self._host, self._journal, self._jobs)
        else:
            self.draining = False
            self._gate().resume()
            drained = Drained(draining=False, quiet=False, unfinished=len(self._jobs.unfinished()))
        log.info("drain", on=command.on, unfinished=drained.unfinished, quiet=drained.quiet)
        return drained

    def _gate(self) -> Gate:
        if self.gate is None:
            raise RuntimeError("the control commands are not connected to a consumer")
        return self.gate

    def _query(self, command: QueryCommand) -> QueriedCommand:
        record = self._record(str(command.id))
        reply = json.loads(record.reply) if record.reply else None
        return QueriedCommand(status=self._status(record), reply=reply)

    def _cancel(self, command: CancelCommand) -> CancelledCommand:
        record = self._record(str(command.id))
        outcome = self._jobs.cancel(str(command.id))
        if outcome is None:
            raise TooLate(f"request {record.id} is finished; queryCommand has its reply", id=record.id)
        return CancelledCommand(id=command.id, outcome="cancelled" if outcome == "cancelled" else "stopping")

    def _record(self, request_id: str) -> Record:
        record = self._journal.record(request_id)
        if record is None:
            raise UnknownRequest(f"this host never accepted request {request_id}, or has forgotten it", id=request_id)
        return record

    def _status(self, record: Record) -> CommandStatus:
        return CommandStatus.model_validate(
            {
                "id": record.id,
                "bodyCommand": record.command,
                "state": record.state,
                "receivedAt": datetime.fromtimestamp(record.received_at, UTC),
                "attempts": record.attempts,
                "steps": self._jobs.steps(record.id),
                "progress": self._jobs.progress(record.id),
            },
            strict=False,
        )


def _set_level(command: SetLogLevel) -> LogLevelSet:
    before = logs.present_level()
    log.warning("log level set", before=before, after=command.level)
    logs.set_level(command.level)
    return LogLevelSet(before=before, after=command.level)
