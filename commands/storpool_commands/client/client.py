# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Send commands to hosts and wait for what comes back."""

from collections.abc import Callable, Sequence
from queue import Empty
from time import monotonic
from typing import Any, Self, TypeVar, Unpack, cast
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from storpool_commands import topology
from storpool_commands.client import endpoint
from storpool_commands.client.calls import Call, Calls
from storpool_commands.client.endpoint import Tls
from storpool_commands.client.errors import (
    BrokerUnreachable,
    CallError,
    ClientClosed,
    CommandFailed,
    NoReply,
    UnreadableReply,
)
from storpool_commands.client.events import Subscription
from storpool_commands.client.link import Link
from storpool_commands.client.mailbox import Mailbox
from storpool_commands.client.migrating import CompletedMigration, Drive, MigrationPlan
from storpool_commands.client.request import (
    OnProgress,
    Options,
    Terms,
    check_addressee,
    encode,
    exchange_of,
    is_bulk,
    patience_s,
    wire_name,
)
from storpool_commands.control import CancelCommand, CancelledCommand
from storpool_commands.envelope import Event, Failure, Success
from storpool_commands.wire import CommandModel, HostId

CONNECT_TIMEOUT_S = 15.0

R = TypeVar("R")

_WORD: TypeAdapter[str] = TypeAdapter(HostId)


class ManagementClient:
    """A management plane on the bus. Any number of threads may call at once.

    `reply_to` is the word that replies come back under. Give one that stays the same, and belongs to this process
    alone, and its queue stays for an hour after the process has gone: a successor gets the replies. Without one the
    queue goes with the connection, and replies that were missed are asked for again.

    `declare` makes the exchanges where they are missing; without it they are only looked up, as a login that
    may not make any has to.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        password: str | None = None,
        tls: Tls | None = None,
        reply_to: str | None = None,
        declare: bool = True,
    ) -> None:
        """Several URLs are brokers of one cluster, taken in turn. Raises InvalidUrl, ValueError."""
        endpoints = endpoint.parse(url, password, tls)
        if reply_to is not None:
            _WORD.validate_python(reply_to)
        self._calls = Calls()
        self._link = Link(endpoints)
        self._mailbox = Mailbox(self._link, self._calls, login=endpoints[0].login, reply_to=reply_to, declare=declare)
        self._link.admit(self._mailbox)
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect. Raises BrokerUnreachable, at once when trying again would not help, and is then closed."""
        self._link.start()
        self._link.tried.wait(timeout_s)
        if not self._link.ready.is_set():
            self.close()
            raise BrokerUnreachable(f"no connection to the broker: {self._link.trouble}")

    def close(self) -> None:
        """Calls that wait raise ClientClosed."""
        if self._closed:
            return
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
        self._link.stop()
        for call in self._calls.all():
            call.inbox.put(_closed())

    @property
    def connected(self) -> bool:
        """Requests can be sent now; without a connection they wait for one."""
        return self._link.ready.is_set()

    def call(self, command: CommandModel[R], *, host: str, **options: Unpack[Options]) -> R:
        """Have a host do it, and wait for the result. `any` is the first host that is free.

        Any host takes commands that touch StorPool's API alone; they name what they change by its global id. When
        it dies another one goes on.

        With the `request_id` of an earlier call, and the same arguments, it is not done again: the host repeats
        its reply. A copy job is waited for as long as there are signs of life. Raises CommandFailed, NoReply,
        HostUnknown, BrokerUnreachable, RequestRefused, UnreadableReply, ClientClosed, and ValueError for a request
        that cannot be.
        """
        return _result(command, self.ask(command, host=host, **options))

    def control(self, command: CommandModel[R], *, host: str, **options: Unpack[Options]) -> R:
        """As call, but by the host's control queue: served at once, before all that waits in the host's queue."""
        return _result(command, self.ask(command, host=host, exchange=topology.CONTROL, **options))

    def cancel(self, request_id: UUID, *, host: str, timeout_s: float | None = None) -> CancelledCommand:
        """Have the host stop a request. What has become of that one its own call says, by CommandFailed.

        Raises CommandFailed: `too-late` when it is finished, `unknown-request`; and what call does.
        """
        return self.control(CancelCommand(id=request_id), host=host, timeout_s=timeout_s)

    def migrate(
        self,
        plan: MigrationPlan,
        *,
        on_progress: OnProgress | None = None,
        on_phase: Callable[[str], None] = lambda _phase: None,
    ) -> CompletedMigration:
        """Move a running machine to another host, with the volumes that the plan names; `on_phase` hears of each step.

        Called again with the same plan, it goes on where the first call ended. Raises MigrationFailed when the machine
        stays where it is, MigrationUnresolved when that could not be settled, ValueError for a machine that cannot be
        moved so, and what `call` does: CommandFailed before anything has been prepared, or when a volume could not be
        moved; NoReply and the others when it may still go on.
        """
        return Drive(self, plan, on_progress, on_phase).run()

    def ask(
        self, command: CommandModel[Any], *, host: str, exchange: str | None = None, **options: Unpack[Options]
    ) -> Success:
        """As call, but returns the whole reply, with the steps and the time they took."""
        terms = Terms(**options)
        exchange = exchange or exchange_of(command)
        check_addressee(command, host, exchange)
        request_id = terms.request_id or uuid4()
        body = encode(command, request_id, exchange, terms, for_any=host == topology.ANY_HOST)
        call = Call(request_id, host, exchange, body)
        timeout_s = patience_s(command) if terms.timeout_s is None else terms.timeout_s
        return self._await(call, timeout_s, terms.on_progress, renewed=terms.timeout_s is None and is_bulk(command))

    def wait(self, request_id: UUID, *, timeout_s: float = 60.0, on_progress: OnProgress | None = None) -> Success:
        """Wait for the reply to an earlier request, without asking the host for it. Raises as call does."""
        return self._await(Call(request_id, "", "", None), timeout_s, on_progress)

    def events(self, binding: str, callback: Callable[[Event], None]) -> Subscription:
        """Subscribe to events by routing key, such as `#`, `kvm1.#`, `*.attachment.*`."""
        subscription = Subscription(self._link, binding, callback)
        self._subscriptions.append(subscription)
        return subscription

    def _await(self, call: Call, timeout_s: float, on_progress: OnProgress | None, *, renewed: bool = False) -> Success:
        """`renewed`: the time begins again with every sign of life."""
        self._calls.add(call)
        try:
            if self._closed:
                raise _closed()
            self._link.submit(lambda: self._mailbox.send(call))
            return _final_reply(call, timeout_s, on_progress, renewed=renewed)
        except Empty:
            pass
        finally:
            self._calls.remove(call)
        raise self._silence(call, timeout_s, "sign of life" if renewed else "reply")

    def _silence(self, call: Call, timeout_s: float, missing: str) -> CallError:
        """The call is no longer among those that are sent: what is known of it stays so."""
        if call.body is None:
            what = f"no reply in {timeout_s:g} s; call with the same id asks the host"
            return NoReply(what, call.request_id, confirmed=False)
        if not call.sent:
            return BrokerUnreachable(f"not sent, no connection in {timeout_s:g} s: {self._link.trouble}")
        where = (
            f"is in the queue of {call.addressee}" if call.confirmed else "was sent, the broker has not confirmed it"
        )
        what = f"no {missing} in {timeout_s:g} s. The request {where}: it may run, or still be run; ask again by its id"
        return NoReply(what, call.request_id, confirmed=call.confirmed)


def _final_reply(call: Call, timeout_s: float, on_progress: OnProgress | None, *, renewed: bool) -> Success:
    """Raises queue.Empty when the time is over."""
    give_up_at = monotonic() + timeout_s
    while True:
        match call.inbox.get(timeout=max(0.0, give_up_at - monotonic())):
            case Success() as reply:
                return reply
            case Failure() as reply:
                raise CommandFailed(reply)
            case CallError() as error:
                raise error
            case progress:
                if on_progress is not None:
                    on_progress(progress)
                if renewed:
                    give_up_at = monotonic() + timeout_s


def _result(command: CommandModel[R], reply: Success) -> R:
    if reply.result.command != wire_name(command):
        raise UnreadableReply(f"the reply is one to {reply.result.command}; is the id used twice?", _id(reply))
    return cast("R", reply.result)


def _id(reply: Success) -> UUID:
    return reply.id or UUID(int=0)


def _closed() -> ClientClosed:
    return ClientClosed("the client was closed; a command that was sent may still run")
