# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The trace that a request belongs to, as its sender says (W3C Trace Context), in all that is done for it.

Each run of a request is a span of its own below the sender's, and each call that is made for it one below that. The
agent tells nobody of its spans: who collects traces finds them by these ids in the log, in StorPool's requests, and in
replies and events. It makes up no trace for a request that has none: the request's id does the same in one host's log.
"""

import os
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass

from structlog.contextvars import bound_contextvars

KNOWN_FLAGS = 0x03
"""Sampled, and random trace id (level 2); a flag that is not known is not passed on."""


@dataclass(frozen=True)
class Span:
    """A part of a trace."""

    trace_id: str
    span_id: str
    flags: str

    @property
    def traceparent(self) -> str:
        """As it is told to others: in the version of the format that this is."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def child(self) -> "Span":
        return Span(self.trace_id, os.urandom(8).hex(), self.flags)


def begin(traceparent: str | None) -> Span | None:
    """A span of this agent's below the one that was told, which the contract has checked; None for no trace."""
    if traceparent is None:
        return None
    trace_id, parent_id, flags = traceparent.split("-")[1:4]
    return Span(trace_id, parent_id, f"{int(flags, 16) & KNOWN_FLAGS:02x}").child()


def told(span: Span | None) -> str | None:
    """What a message says of it."""
    return None if span is None else span.traceparent


_current: ContextVar[Span | None] = ContextVar("span", default=None)


def within(span: Span | None) -> AbstractContextManager[None]:
    """What this thread logs and calls meanwhile is a part of the span. Other threads have to be told anew."""
    return nullcontext() if span is None else _within(span)


@contextmanager
def _within(span: Span) -> Generator[None]:
    before = _current.set(span)
    try:
        with bound_contextvars(trace_id=span.trace_id, span_id=span.span_id):
            yield
    finally:
        _current.reset(before)


def call() -> Span | None:
    """A span for a call that this thread makes now; None outside of any trace."""
    current = _current.get()
    return current.child() if current else None
