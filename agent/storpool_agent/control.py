# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands of the control queue: answered at once from the journal and the jobs."""

import json
from datetime import UTC, datetime
from time import monotonic
from typing import assert_never

from storpool_agent import dispatch
from storpool_agent.errors import AgentError, TooLate, UnknownRequest
from storpool_agent.jobs import Jobs
from storpool_agent.journal.journal import Journal, Record
from storpool_commands.catalogue import Result
from storpool_commands.control import (
    CancelCommand,
    CancelledCommand,
    CommandStatus,
    Drain,
    GetDriftReport,
    ListAttachments,
    ListCommands,
    ListedCommands,
    Ping,
    QueriedCommand,
    QueryCommand,
    SetLogLevel,
)
from storpool_commands.envelope import ControlRequest, Failure, Success
from storpool_commands.errors import retry_class


class Control:
    """Answers in the thread that asks; nothing here waits for a lane."""

    def __init__(self, host: str, journal: Journal, jobs: Jobs) -> None:
        self._host = host
        self._journal = journal
        self._jobs = jobs

    def answer(self, request: ControlRequest) -> Success | Failure:
        """The reply, whatever happens."""
        started = monotonic()
        try:
            result = self._handle(request)
        except AgentError as error:
            return Failure(
                id=request.id,
                host=self._host,
                code=error.code,
                message=str(error),
                retry=retry_class(error.code),
                side_effects="none",
                facts=error.facts,
            )
        return Success(id=request.id, host=self._host, result=result, took_ms=round((monotonic() - started) * 1000, 3))

    def _handle(self, request: ControlRequest) -> Result:
        command = request.body
        match command:
            case Ping():
                return dispatch.pong(self._host)
            case QueryCommand():
                return self._query(command)
            case ListCommands():
                records = self._journal.records(command.state, command.limit)
                return ListedCommands(commands=[self._status(record) for record in records])
            case CancelCommand():
                return self._cancel(command)
            case ListAttachments() | GetDriftReport() | Drain() | SetLogLevel():
                raise NotImplementedError
            case _:
                assert_never(command)

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
            },
            strict=False,
        )
