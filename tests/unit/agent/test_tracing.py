# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The trace of a request: its own spans, in this thread, for as long as it lasts."""

import threading

import pytest
from structlog.contextvars import get_contextvars

from storpool_agent import tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("version", "flags", "passed_on"),
    [("00", "01", "01"), ("00", "00", "00"), ("00", "03", "03"), ("00", "ff", "03"), ("cc", "05", "01")],
    ids=["sampled", "not sampled", "random id", "unknown flags", "a later version"],
)
def test_a_span_is_of_the_senders_trace_and_has_an_id_of_its_own(version: str, flags: str, passed_on: str) -> None:
    span = tracing.begin(f"{version}-{TRACE}-{PARENT}-{flags}")
    assert span is not None
    assert span.span_id != PARENT
    assert span.traceparent == f"00-{TRACE}-{span.span_id}-{passed_on}"
    assert len(span.traceparent) == 55


def test_a_request_without_a_trace_gets_none() -> None:
    span = tracing.begin(None)
    with tracing.within(span):
        assert (span, tracing.told(span), tracing.call(), get_contextvars()) == (None, None, None, {})


def test_what_is_called_and_logged_meanwhile_belongs_to_it_and_nothing_after() -> None:
    span = tracing.begin(f"00-{TRACE}-{PARENT}-01")
    assert span is not None
    with tracing.within(span):
        calls = [tracing.call() for _ in range(2)]
        logged = get_contextvars()
    assert logged == {"trace_id": TRACE, "span_id": span.span_id}
    assert [each and each.trace_id for each in calls] == [TRACE, TRACE]
    assert len({span.span_id, PARENT, *(each and each.span_id for each in calls)}) == 4
    assert (tracing.call(), get_contextvars()) == (None, {})


def test_a_span_in_another_is_the_one_that_counts() -> None:
    outer, inner = tracing.begin(f"00-{TRACE}-{PARENT}-01"), tracing.begin(f"00-{'1' * 32}-{PARENT}-00")
    with tracing.within(outer):
        with tracing.within(inner):
            seen = tracing.call()
        after = tracing.call()
    assert seen is not None
    assert after is not None
    assert (seen.trace_id, after.trace_id) == ("1" * 32, TRACE)


def test_another_thread_is_in_no_span() -> None:
    """Threads of other requests least of all."""
    seen: list[object] = []
    with tracing.within(tracing.begin(f"00-{TRACE}-{PARENT}-01")):
        thread = threading.Thread(target=lambda: seen.append(tracing.call()))
        thread.start()
        thread.join()
    assert seen == [None]
