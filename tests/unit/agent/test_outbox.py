# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What goes out: until the broker has it, and not twice while it is under way."""

import time
from collections.abc import Callable, Iterator

import pytest

from storpool_agent import outbox as outbox_module
from storpool_agent.bus.publisher import Message
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.journal.outgoing import Outgoing
from storpool_agent.outbox import Outbox

WAIT_S = 5.0


class FakePublisher:
    """Keeps what it is given until the test says what became of it."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def publish(self, *messages: Message) -> None:
        self.sent += messages

    def confirm(self, number: int = -1) -> None:
        self.sent[number].confirmed()

    def refuse(self, number: int = -1) -> None:
        refused = self.sent[number].refused
        assert refused is not None
        refused("no queue takes it")


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def outbox(journal: Journal, publisher: FakePublisher, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    monkeypatch.setattr(outbox_module, "SETTLE_S", 0.01)
    monkeypatch.setattr(outbox_module, "RETRY_S", 0.05)
    outbox = Outbox(journal, publisher)
    outbox.start()
    yield outbox
    outbox.stop()


def finished(journal: Journal, request_id: str = "r1") -> list[Outgoing]:
    journal.accept([Arrival(request_id, "ping", b"{}", None, "mgmt")])
    return journal.finish(request_id, b"reply")


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def test_a_reply_is_sent_with_its_id_and_must_find_a_queue(
    outbox: Outbox, publisher: FakePublisher, journal: Journal
) -> None:
    outbox.send(finished(journal))
    (message,) = publisher.sent
    assert (message.exchange, message.routing_key, message.message_id) == ("storpool.replies", "kvm1.mgmt", "r1")
    assert (message.body, message.mandatory) == (b"reply", True)


def test_what_is_confirmed_leaves_the_journal(outbox: Outbox, publisher: FakePublisher, journal: Journal) -> None:
    outbox.send(finished(journal))
    assert journal.outgoing.due()
    publisher.confirm()
    until(lambda: not journal.outgoing.due())


def test_what_is_under_way_is_not_sent_again(outbox: Outbox, publisher: FakePublisher, journal: Journal) -> None:
    outgoing = finished(journal)
    outbox.send(outgoing)
    outbox.send(outgoing)
    assert len(publisher.sent) == 1


def test_what_has_no_queue_is_tried_again_until_it_has(
    outbox: Outbox, publisher: FakePublisher, journal: Journal
) -> None:
    outbox.send(finished(journal))
    publisher.refuse()
    until(lambda: len(publisher.sent) == 2)
    assert publisher.sent[1].body == b"reply"
    publisher.confirm()
    until(lambda: not journal.outgoing.has_postponed())
    assert len(publisher.sent) == 2


def test_a_refused_reply_does_not_hold_up_others(outbox: Outbox, publisher: FakePublisher, journal: Journal) -> None:
    outbox.send(finished(journal, "r1"))
    publisher.refuse()
    outbox.send(finished(journal, "r2"))
    assert publisher.sent[1].message_id == "r2"


@pytest.mark.parametrize("refused", [False, True])
def test_what_an_earlier_run_has_left_is_sent(publisher: FakePublisher, journal: Journal, refused: bool) -> None:
    (outgoing,) = finished(journal)
    if refused:
        journal.outgoing.postpone(outgoing)
        journal.outgoing.flush()
    outbox = Outbox(journal, publisher)
    outbox.start()
    try:
        until(lambda: [message.message_id for message in publisher.sent] == ["r1"])
    finally:
        outbox.stop()
