# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How a call can end other than with its result."""

from uuid import UUID

from storpool_commands.envelope import Failure, Step
from storpool_commands.errors import ErrorCode, Retry, SideEffects
from storpool_commands.wire import Fact


class CallError(Exception):
    """Base of all that a call raises."""


class CommandFailed(CallError):
    """The host said that the command has failed, and why."""

    def __init__(self, reply: Failure) -> None:
        super().__init__(f"{reply.code}: {reply.message}")
        self.reply = reply

    @property
    def code(self) -> ErrorCode:
        return self.reply.code

    @property
    def message(self) -> str:
        return self.reply.message

    @property
    def retry(self) -> Retry:
        return self.reply.retry

    @property
    def side_effects(self) -> SideEffects:
        return self.reply.side_effects

    @property
    def facts(self) -> dict[str, Fact]:
        return self.reply.facts

    @property
    def steps(self) -> list[Step]:
        return self.reply.steps


class MigrationFailed(CallError):
    """The machine runs on the source with its disks, and the destination has none of them. Try with a new migration."""

    def __init__(self, migration: UUID, cause: CommandFailed) -> None:
        super().__init__(f"{cause}; the machine stays on the source, the destination has let go of its disks")
        self.migration = migration
        self.cause = cause


class MigrationUnresolved(CallError):
    """Where the machine is to be could not be settled, and nothing was done that is not proven to be right.

    The same call with the same migration goes on, when the reason is mended. `seen` is what each host says of the
    machine: a state of it, an error code such as `vm-not-found`, or that the host does not answer.
    """

    def __init__(self, migration: UUID, what: str, cause: CommandFailed, seen: dict[str, str]) -> None:
        told = ", ".join(f"{host}: {state}" for host, state in seen.items())
        super().__init__(f"{what}: {cause}. The machine as seen on {told}")
        self.migration = migration
        self.cause = cause
        self.seen = seen


class _AboutRequest(CallError):
    """Has the request's id, with which the same call can be made again."""

    def __init__(self, message: str, request_id: UUID) -> None:
        super().__init__(message)
        self.request_id = request_id


class NoReply(_AboutRequest):
    """No final reply came in time. The command may run, or still be run.

    Ask again with the same id: `client.wait(error.request_id)` waits for a reply that is on its way,
    `client.call(command, request_id=error.request_id, ...)` has the host repeat the reply that it stored. Neither
    runs the command a second time.
    """

    def __init__(self, message: str, request_id: UUID, *, confirmed: bool) -> None:
        super().__init__(message, request_id)
        self.confirmed = confirmed
        """The broker has the request safe in the host's queue."""


class BrokerUnreachable(CallError):
    """There was no connection to the broker, so nothing was sent and nothing will happen."""


class HostUnknown(_AboutRequest):
    """The broker has no queue for this host, or none of all hosts, so nothing will happen."""


class RequestRefused(_AboutRequest):
    """The broker does not take the request: no permission, a wrong login, too large."""


class UnreadableReply(_AboutRequest):
    """A final reply came and this version of the SDK cannot read it. The command is finished."""


class ClientClosed(CallError):
    """The client was closed while the call waited. The command may still run."""
