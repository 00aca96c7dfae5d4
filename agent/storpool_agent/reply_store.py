# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Replies on their way into the journal: a worker does not wait for the disk, and a full disk loses none."""

import threading
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from storpool_agent.deadline import Deadline
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.outgoing import Outgoing
from storpool_agent.lanes import Lane

log = structlog.get_logger()

RETRY_S = 1.0

Kept = Callable[[Sequence[Outgoing]], None]
"""Takes what is to be published now."""


class ReplyStore:
    """Any thread may call any method."""

    def __init__(self, journal: Journal, lane: Lane) -> None:
        """`lane`: whose workers try again what could not be stored."""
        self._journal = journal
        self._lane = lane
        self._under_way = 0
        self._changed = threading.Condition()
        self._abandoned = threading.Event()

    @property
    def abandoned(self) -> bool:
        return self._abandoned.is_set()

    def abandon(self) -> None:
        """The agent stops before its work is done: try nothing again from now on."""
        self._abandoned.set()

    def store(self, request_id: str, reply: bytes, kept: Kept, given_up: Callable[[], None]) -> None:
        """Have a reply stored, as often as it takes. One of the two is called, by another thread: which is to say how
        it came out."""
        with self._changed:
            self._under_way += 1
        failed = partial(self._failed, request_id, reply, kept, given_up)
        self._journal.finish_soon(request_id, reply, partial(self._stored, kept), failed)

    def wait(self, deadline: Deadline) -> bool:
        """Until what is under way is stored, and was told; false when it is not at the deadline."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way, deadline.remaining_s)

    def _stored(self, kept: Kept, outgoing: Sequence[Outgoing]) -> None:
        kept(outgoing)
        self._ended()

    def _failed(
        self, request_id: str, reply: bytes, kept: Kept, given_up: Callable[[], None], error: Exception
    ) -> None:
        log.error("reply not stored", request=request_id, reason=str(error))
        self._lane.put(partial(self._again, request_id, reply, kept, given_up))
        self._ended()

    def _again(self, request_id: str, reply: bytes, kept: Kept, given_up: Callable[[], None]) -> None:
        if self._abandoned.wait(RETRY_S):
            given_up()
        else:
            self.store(request_id, reply, kept, given_up)

    def _ended(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()
