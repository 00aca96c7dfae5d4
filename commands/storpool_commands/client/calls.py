# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The calls that wait for a reply, and the replies that nobody has waited for yet."""

from collections import OrderedDict
from queue import SimpleQueue
from threading import Lock
from uuid import UUID

from storpool_commands import topology
from storpool_commands.client.errors import CallError
from storpool_commands.envelope import Accepted, Failure, Progress, Success

REMEMBERED_REPLIES = 1000

Reply = Success | Failure | Accepted | Progress


class Call:
    """One caller waiting for one request.

    The caller's thread reads `inbox` and nothing else until it gives up; the rest belongs to the I/O thread.
    """

    def __init__(self, request_id: UUID, host: str, exchange: str, body: bytes | None) -> None:
        self.request_id = request_id
        self.host = host
        self.exchange = exchange
        self.body = body
        """None: the request was sent earlier, only its reply is waited for."""
        self.inbox: SimpleQueue[Reply | CallError] = SimpleQueue()
        self.sent = False
        self.confirmed = False
        self.refused = False
        self.carrier: object = None
        """The channel that took it last."""

    def may_be_answered_by(self, host: str) -> bool:
        """An id that another host has come to know is no way for it to answer."""
        return self.host in {"", topology.ANY_HOST, host}

    @property
    def addressee(self) -> str:
        """For messages."""
        return "all hosts" if self.host == topology.ANY_HOST else f"a host {self.host}"


class Calls:
    """Thread-safe. Any number of callers may wait for the same request."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[UUID, list[Call]] = {}
        self._remembered: OrderedDict[UUID, Success | Failure] = OrderedDict()

    def add(self, call: Call) -> None:
        with self._lock:
            self._waiting.setdefault(call.request_id, []).append(call)
            known = self._remembered.get(call.request_id) if call.body is None else None
        if known is not None:
            call.inbox.put(known)

    def remove(self, call: Call) -> None:
        with self._lock:
            waiting = self._waiting[call.request_id]
            waiting.remove(call)
            if not waiting:
                del self._waiting[call.request_id]

    def take(self, call: Call) -> bool:
        """Say that it is sent now, unless its caller has given up: who has been told "not sent" can rely on it."""
        with self._lock:
            waits = call in self._waiting.get(call.request_id, ())
            call.sent = call.sent or waits
            return waits

    def of(self, request_id: UUID) -> list[Call]:
        with self._lock:
            return list(self._waiting.get(request_id, ()))

    def all(self) -> list[Call]:
        """In the order in which they were made."""
        with self._lock:
            return [call for calls in self._waiting.values() for call in calls]

    def deliver(self, request_id: UUID, reply: Reply) -> None:
        """Give a reply to who waits for it. A final one is kept for who may ask later; the first one counts."""
        with self._lock:
            waiting = list(self._waiting.get(request_id, ()))
            heard = [call for call in waiting if call.may_be_answered_by(reply.host)]
            if isinstance(reply, Success | Failure) and (heard or not waiting):
                self._remember(request_id, reply)
        for call in heard:
            call.inbox.put(reply)

    def _remember(self, request_id: UUID, reply: Success | Failure) -> None:
        """Call with the lock held."""
        self._remembered.setdefault(request_id, reply)
        while len(self._remembered) > REMEMBERED_REPLIES:
            self._remembered.popitem(last=False)
