# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What people ask of the journal: requests by the beginning of their id, about a volume, and how much of everything."""

import json
from typing import Any

import pytest

from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.journal.overview import MAX_SHOWN_BYTES, Overview
from storpool_agent.journal.temporaries import Temporary
from storpool_agent.journal.thaws import PendingThaw
from storpool_agent.journal.unplugs import PendingUnplug

IDS = ("aaaa0000-1", "aaaa0000-2", "aaab0000-3", "f0000000-4")


@pytest.fixture
def overview(database: Database) -> Overview:
    return Overview(database)


def accept(journal: Journal, request_id: str, **body: Any) -> None:
    text = json.dumps({"id": request_id, "body": {"command": "attachDisk", **body}}).encode()
    journal.accept([Arrival(request_id, "attachDisk", text, "plane", "word")])


@pytest.mark.parametrize(
    ("prefix", "found"),
    [(None, IDS), ("aaaa0000-1", IDS[:1]), ("aaaa", IDS[:2]), ("aaa", IDS[:3]), ("f", IDS[3:]), ("0", ()), ("g", ())],
)
def test_requests_are_found_by_the_beginning_of_their_id(
    journal: Journal, overview: Overview, prefix: str | None, found: tuple[str, ...]
) -> None:
    for request_id in IDS:
        accept(journal, request_id)
    assert [one.id for one in overview.entries(None, 10, prefix)] == list(reversed(found))


def test_a_state_and_a_limit_narrow_it(journal: Journal, overview: Overview) -> None:
    for request_id in IDS:
        accept(journal, request_id)
    journal.start(IDS[0])
    journal.finish(IDS[1], b'{"status": "failure", "code": "vm-busy"}')
    assert [one.id for one in overview.entries("running", 10)] == [IDS[0]]
    assert [one.id for one in overview.entries("accepted", 1)] == [IDS[3]]
    (finished,) = overview.entries("finished", 10)
    assert (finished.id, (finished.reply or {})["code"]) == (IDS[1], "vm-busy")
    assert [one.id for one in overview.unfinished()] == [IDS[0], IDS[2], IDS[3]]


def test_a_request_says_what_it_is_about(journal: Journal, overview: Overview) -> None:
    accept(journal, "r", volume="~d.n.a1", vm="web-1", pool=None, timeoutS=1)
    entry = overview.entry("r")
    assert entry is not None
    assert entry.objects == {"volume": "~d.n.a1", "vm": "web-1"}
    assert (entry.publisher, entry.reply_to, entry.attempts) == ("plane", ("word",), 0)


def test_what_is_large_is_not_read_for_a_list(journal: Journal, overview: Overview) -> None:
    accept(journal, "r", volume="~d.n.a1", filler="x" * MAX_SHOWN_BYTES)
    (listed,) = overview.entries(None, 10)
    assert (listed.request, listed.objects) == (None, {})
    entry = overview.entry("r")
    assert entry is not None
    assert entry.objects == {"volume": "~d.n.a1"}


def test_an_id_that_is_not_known_is_none(overview: Overview) -> None:
    assert overview.entry("r") is None


def test_how_much_of_everything(journal: Journal, overview: Overview) -> None:
    for request_id in IDS:
        accept(journal, request_id)
    journal.finish(IDS[0], b"{}")
    journal.unplugs.expect(PendingUnplug("d.n.a1", "vm", IDS[1]))
    journal.thaws.expect(PendingThaw("vm", IDS[1], thaw_at=1.0))
    for owner in (IDS[0], IDS[1]):
        journal.temporaries.add(Temporary(owner, "use", "d.n.a1"))
    counts = overview.counts()
    assert (counts.unfinished, counts.unsent, counts.unplugs) == (3, 1, 1)
    assert (counts.thaws, counts.thaws_overdue, counts.leftovers) == (1, 1, 1)
    assert None not in (counts.oldest_unsent, counts.oldest_unplug)
    assert (overview.unsent(IDS[0]), overview.unsent(IDS[1])) == (1, 0)
    assert overview.temporaries_of(IDS[0]) == [("use", "d.n.a1")]


def test_an_object_is_found_in_what_copies_have_written_down(journal: Journal, overview: Overview) -> None:
    for kind, target in (("use", "d.n.a1"), ("volume", '["", "d.n.a1"]'), ("use", "d.n.a10"), ("store", "nfs://a/b")):
        journal.temporaries.add(Temporary("r", kind, target))
    assert overview.temporaries(["d.n.a1"]) == [("use", "r"), ("volume", "r")]


def test_the_newest_finished_requests_about_a_volume_come_first(journal: Journal, overview: Overview) -> None:
    for request_id in IDS:
        accept(journal, request_id, volume="~d.n.a1")
        journal.finish(request_id, b"{}")
    accept(journal, "other", volume="~d.n.a10")
    journal.finish("other", b"{}")
    assert [one.id for one in overview.about(['~d.n.a1"', '/d.n.a1"'], 2)] == [IDS[3], IDS[2]]
