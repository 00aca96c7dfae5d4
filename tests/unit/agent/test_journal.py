# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The rules of the journal: one row for a request, one reply, and what is told to whoever asks again."""

from dataclasses import replace
from time import time

import pytest

from storpool_agent.journal import journal as journal_module
from storpool_agent.journal import outgoing as outgoing_module
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Arrival, Journal, Verdict
from storpool_agent.journal.outgoing import Outgoing
from storpool_agent.journal.unplugs import PendingUnplug


def arrival(request_id: str = "r1", body: bytes = b"{}", reply_to: str | None = "mgmt") -> Arrival:
    return Arrival(request_id, "ping", body, "guest", reply_to)


def accept(journal: Journal, *arrivals: Arrival) -> list[Verdict]:
    return [verdict for verdict, _ in journal.accept(arrivals)]


def test_a_batch_is_stored_in_order_of_arrival(journal: Journal) -> None:
    assert accept(journal, arrival("b"), arrival("a"), arrival("c")) == [Verdict.NEW] * 3
    assert [stored.id for stored in journal.unfinished()] == ["b", "a", "c"]


def test_the_same_request_twice_in_a_batch_is_one(journal: Journal) -> None:
    assert accept(journal, arrival(), arrival()) == [Verdict.NEW, Verdict.UNFINISHED]
    assert len(journal.unfinished()) == 1


def test_the_same_id_with_another_body_is_a_conflict_whatever_became_of_the_first(journal: Journal) -> None:
    accept(journal, arrival())
    assert accept(journal, arrival(body=b"{ }")) == [Verdict.CONFLICT]
    journal.finish("r1", b"reply")
    assert accept(journal, arrival(body=b"{ }")) == [Verdict.CONFLICT]


def test_everybody_who_asked_gets_the_reply_once(journal: Journal) -> None:
    accept(journal, arrival(), arrival(reply_to="other"), arrival(), arrival(reply_to=None))
    sent = journal.finish("r1", b"reply")
    assert [(one.routing_key, one.body, one.mandatory) for one in sent] == [
        ("kvm1.mgmt", b"reply", True),
        ("kvm1.other", b"reply", True),
    ]


def test_a_finished_request_is_answered_from_what_is_stored(journal: Journal) -> None:
    accept(journal, arrival())
    journal.finish("r1", b"reply")
    ((verdict, again),) = journal.accept([arrival(reply_to="late")])
    assert verdict is Verdict.FINISHED
    assert again is not None
    assert (again.routing_key, again.body, again.message_id) == ("kvm1.late", b"reply", "r1")


def test_a_finished_request_that_nobody_asks_for_again_is_not_sent(journal: Journal) -> None:
    accept(journal, arrival())
    journal.finish("r1", b"reply")
    assert journal.accept([arrival(reply_to=None)]) == [(Verdict.FINISHED, None)]


def test_attempts_are_counted_over_restarts(database: Database, journal: Journal) -> None:
    accept(journal, arrival())
    assert [journal.start("r1"), Journal(database, "kvm1").start("r1")] == [1, 2]
    assert [stored.attempts for stored in journal.unfinished()] == [2]


def test_a_finished_request_is_not_run_again(journal: Journal) -> None:
    accept(journal, arrival())
    journal.finish("r1", b"reply")
    assert journal.unfinished() == []
    record = journal.record("r1")
    assert record is not None
    assert (record.state, record.reply) == ("finished", b"reply")


def test_a_note_is_its_requests_own(journal: Journal) -> None:
    accept(journal, arrival())
    accept(journal, arrival("r2"))
    journal.note("r1", "attach", "a.b.c")
    journal.note("r1", "attach", "a.b.c")
    assert journal.noted("r1", "attach", "a.b.c")
    assert not journal.noted("r1", "attach", "a.b.d")
    assert not journal.noted("r2", "attach", "a.b.c")


def test_the_highest_generation_stays(journal: Journal) -> None:
    assert [journal.raise_fence("a.b.c", generation) for generation in (5, 3, 7, 7)] == [5, 5, 7, 7]
    assert journal.raise_fence("a.b.d", 1) == 1


def test_a_pending_unplug_is_settled_once_with_its_event(journal: Journal) -> None:
    pending = PendingUnplug("a.b.c", "vm", "r1")
    journal.unplugs.expect(pending)
    assert (journal.unplugs.of("a.b.c"), journal.unplugs.pending("vm")) == (pending, [pending])
    assert journal.unplugs.pending("another") == []
    event = journal.unplugs.settle("a.b.c", "attachment.detached", b'{"id": "e1"}')
    assert event is not None
    assert (event.routing_key, event.message_id, event.mandatory) == ("kvm1.attachment.detached", "e1", False)
    assert journal.unplugs.settle("a.b.c", "attachment.detached", b'{"id": "e1"}') is None


def test_records_are_listed_the_newest_first(journal: Journal) -> None:
    accept(journal, *(arrival(one) for one in "abc"))
    journal.start("a")
    assert [one.id for one in journal.records(None, 2)] == ["c", "b"]
    assert [one.id for one in journal.records("running", 10)] == ["a"]


def test_what_is_confirmed_is_sent_no_more(journal: Journal) -> None:
    (outgoing,) = _finished(journal)
    journal.outgoing.confirmed([outgoing.seq])
    journal.outgoing.flush()
    assert journal.outgoing.due() == []


def test_what_is_refused_is_due_later_and_later(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    (outgoing,) = _finished(journal)
    now = time()
    waits: list[float] = []
    for _ in range(8):
        monkeypatch.setattr(outgoing_module, "time", lambda at=now: at)
        journal.outgoing.postpone(outgoing)
        journal.outgoing.flush()
        waits.append(
            next(wait for wait in (1, 2, 4, 8, 16, 32, 60, 61) if _due_after(journal, now + wait, monkeypatch))
        )
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert journal.outgoing.has_postponed()


def test_what_is_old_is_forgotten(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(journal, arrival("old"), arrival("unfinished"))
    journal.finish("old", b"reply")
    later = time() + journal_module.RETENTION_S + 1
    monkeypatch.setattr(journal_module, "time", lambda: later)
    assert journal.forget() == 1
    assert journal.record("old") is None
    assert [one.id for one in journal.unfinished()] == ["unfinished"]
    assert journal.outgoing.due() == []


def _finished(journal: Journal) -> list[Outgoing]:
    accept(journal, arrival())
    return journal.finish("r1", b"reply")


def _due_after(journal: Journal, at: float, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(outgoing_module, "time", lambda: at)
    return bool(journal.outgoing.due())


def test_what_the_broker_keeps_is_forgotten_at_a_start_unless_it_is_finished_or_was_sent_to_this_host(
    journal: Journal,
) -> None:
    shared = [replace(arrival(name), shared=True) for name in ("done", "sent here", "left")]
    accept(journal, *shared, arrival("sent here"), arrival("own"))
    journal.finish("done", b"reply")
    assert journal.drop_shared() == 1
    assert [stored.id for stored in journal.unfinished()] == ["sent here", "own"]
    assert accept(journal, *shared) == [Verdict.FINISHED, Verdict.UNFINISHED, Verdict.NEW]


def test_only_what_the_broker_keeps_can_be_dropped(journal: Journal) -> None:
    accept(journal, *(replace(arrival(name), shared=True) for name in ("a", "b", "c")), arrival("own"))
    journal.finish("b", b"reply")
    journal.drop(["a", "b", "own"])
    assert [stored.id for stored in journal.unfinished()] == ["c", "own"]
    assert journal.record("b") is not None


def test_the_outbox_s_length_and_age_are_told(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert journal.outgoing.backlog() == (0, None)
    now = time()
    for age, word in ((60, "a"), (30, "b")):
        monkeypatch.setattr(journal_module, "time", lambda age=age: now - age)
        accept(journal, arrival(word))
        journal.finish(word, b"{}")
    assert journal.outgoing.backlog() == (2, now - 60)


def test_how_long_guests_are_waited_for_is_told(journal: Journal) -> None:
    assert journal.unplugs.since() == []
    before = time()
    journal.unplugs.expect(PendingUnplug("a.b.c", "vm", "1"))
    (since,) = journal.unplugs.since()
    assert before <= since <= time()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"traceparent": "00-1-2-01", "body": {}}', "00-1-2-01"),
        (b'{"body": {}}', None),
        (b'{"traceparent": null}', None),
    ],
    ids=["one", "none", "null"],
)
def test_a_requests_trace_is_remembered_with_it(journal: Journal, body: bytes, told: str | None) -> None:
    accept(journal, arrival("1", body))
    assert journal.traceparent("1") == told
    assert journal.traceparent("2") is None
