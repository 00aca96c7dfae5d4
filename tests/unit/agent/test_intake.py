# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From a delivery to what it becomes: a job, an answer, or a dead letter with its reason; acked when that is safe."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from storpool_agent import secrecy
from storpool_agent.errors import JournalUnavailable
from storpool_agent.journal.journal import Journal
from storpool_commands.envelope import AnyRequest
from storpool_commands.errors import ErrorCode
from storpool_commands.parse import parse_request
from storpool_commands.pools import AddStoragePool
from unit.agent.intake_desk import ADD, CREATE, PING, SECRET, Desk, delivery, request


@pytest.fixture
def desk(journal: Journal, mocker: MockerFixture) -> Desk:
    return Desk(journal, mocker)


def test_a_good_request_is_stored_run_and_acked(desk: Desk) -> None:
    good = delivery(request())
    assert desk.receive(good) == [good]
    assert [str(one.id) for one in desk.submitted] == [one.id for one in desk.journal.unfinished()]
    assert desk.published == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"garbage", ErrorCode.NOT_JSON),
        (b"[]", ErrorCode.INVALID_REQUEST),
        (request(body={"command": "reboot"}), ErrorCode.UNKNOWN_COMMAND),
        (request(protocol=2), ErrorCode.UNSUPPORTED_PROTOCOL),
        (request(id="7"), ErrorCode.INVALID_ID),
        (request(colour="red"), ErrorCode.UNKNOWN_FIELD),
        (b" " * (1 << 20) + b"{}", ErrorCode.MESSAGE_TOO_LARGE),
    ],
)
def test_a_bad_one_is_answered_and_dead_lettered_before_it_is_acked(
    desk: Desk, body: Mapping[str, Any] | bytes, code: ErrorCode
) -> None:
    bad = delivery(body)
    assert desk.receive(bad) == []
    (reply,), (dead,) = desk.replies, desk.dead
    assert (reply["code"], reply["sideEffects"], reply["host"]) == (code, "none", "kvm1")
    assert (dead.body, dead.headers["code"], dead.headers["reason"]) == (bad.body, code, reply["message"])
    assert desk.settled == []
    dead.confirmed()
    assert desk.settled == [bad]


def test_a_bad_message_whose_dead_letter_is_refused_is_acked_all_the_same(desk: Desk) -> None:
    bad = delivery(b"garbage")
    desk.receive(bad)
    refused = desk.dead[0].refused
    assert refused is not None
    refused("the broker has no room for it")
    assert desk.settled == [bad]


def test_a_batch_is_sorted_into_good_and_bad(desk: Desk) -> None:
    good, bad, other = delivery(request()), delivery(b"garbage"), delivery(request())
    assert desk.receive(good, bad, other) == [good, other]
    assert len(desk.submitted) == 2
    assert len(desk.dead) == 1


@pytest.mark.parametrize("word", [None, "", "a.b", "#", "*", "a b", "x" * 64, "ü"])
def test_a_reply_word_that_is_none_gets_no_reply(desk: Desk, word: str | None) -> None:
    desk.receive(delivery(b"garbage", reply_to=word), delivery(request(progress=True), reply_to=word))
    assert desk.replies == []
    assert len(desk.dead) == 1


def test_a_redelivered_request_is_run_once(desk: Desk) -> None:
    body = request()
    first, again = delivery(body), delivery(body)
    assert desk.receive(first, again) == [first, again]
    assert len(desk.submitted) == 1


def test_a_finished_request_is_answered_from_the_journal(desk: Desk) -> None:
    body = request()
    desk.receive(delivery(body))
    desk.journal.finish(body["id"], b"reply")
    again = delivery(body, reply_to="other")
    assert desk.receive(again) == [again]
    assert [(one.routing_key, one.body) for one in desk.replayed] == [("kvm1.other", b"reply")]
    assert len(desk.submitted) == 1


def test_the_same_id_with_another_body_is_refused(desk: Desk) -> None:
    body = request()
    desk.receive(delivery(body))
    desk.receive(delivery({**body, "progress": True}))
    assert [reply["code"] for reply in desk.replies] == [ErrorCode.ID_CONFLICT]
    assert len(desk.submitted) == 1


KEY = {"secret": "canary4712"}
ENCRYPT = {"command": "encryptVolume", "volume": "~d.n.a1", "key": KEY}
ATTACH = {"command": "attachDisk", "volume": "~d.n.a1", "vm": "vm-1", "encryption": {"key": KEY}}


def test_a_secret_is_run_and_not_stored(desk: Desk, tmp_path: Path) -> None:
    body = request(body=ADD, progress=True)
    desk.receive(delivery(body))
    (submitted,) = desk.submitted
    assert isinstance(submitted.body, AddStoragePool)
    assert submitted.body.url.get_secret_value() == SECRET
    (stored,) = desk.journal.unfinished()
    again = parse_request(stored.body)
    assert isinstance(again.body, AddStoragePool)
    assert (again.id, again.progress, again.body.name) == (submitted.id, True, "p")
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("journal.db*"))
    assert body["id"].encode() in kept
    assert b"canary4711" not in kept
    assert sha256(json.dumps(body).encode()).digest() not in kept, "by which it could be guessed fast"


@pytest.mark.parametrize("command", [ENCRYPT, ATTACH], ids=["encryptVolume", "attachDisk"])
def test_a_passphrase_deep_in_a_command_is_not_stored_either(
    desk: Desk, tmp_path: Path, command: dict[str, Any]
) -> None:
    desk.receive(delivery(request(body=command)))
    (submitted,), (stored,) = desk.submitted, desk.journal.unfinished()
    assert secrecy.has_secret(submitted.body)
    assert "canary4712" in submitted.model_dump_json(by_alias=True)
    assert parse_request(stored.body).body.command == command["command"]
    assert b"canary4712" not in b"".join(file.read_bytes() for file in tmp_path.glob("journal.db*"))


def test_the_same_id_with_another_secret_is_refused_and_dead_lettered_without_it(desk: Desk) -> None:
    body = request(body=ADD)
    desk.receive(delivery(body), delivery(body))
    assert desk.replies == []
    desk.receive(delivery({**body, "body": {**ADD, "url": SECRET.replace("canary", "canary2")}}))
    assert [reply["code"] for reply in desk.replies] == [ErrorCode.ID_CONFLICT]
    assert b"canary" not in desk.dead[0].body
    assert parse_request(desk.dead[0].body).id == desk.submitted[0].id


def test_a_request_without_a_secret_is_stored_as_it_came(desk: Desk) -> None:
    good = delivery(b" " + json.dumps(request()).encode())
    desk.receive(good)
    assert desk.journal.unfinished()[0].body == good.body


def test_progress_is_told_when_it_is_stored(desk: Desk) -> None:
    body = request(progress=True)
    desk.receive(delivery(body))
    assert [(reply["status"], reply["id"]) for reply in desk.replies] == [("accepted", body["id"])]


def test_a_journal_that_cannot_be_written_refuses_all_of_the_batch(desk: Desk, mocker: MockerFixture) -> None:
    mocker.patch.object(desk.journal, "accept", side_effect=JournalUnavailable("full", path="/journal.db"))
    batch = [delivery(request()), delivery(request())]
    assert desk.receive(*batch) == []
    assert [reply["code"] for reply in desk.replies] == [ErrorCode.JOURNAL_UNAVAILABLE] * 2
    assert desk.replies[0]["facts"] == {"path": "/journal.db"}
    assert desk.submitted == []


def test_a_control_request_is_answered_at_once_and_not_stored(desk: Desk) -> None:
    body = request()
    asked = delivery(body, control=True)
    assert desk.receive(asked) == [asked]
    assert [reply["id"] for reply in desk.replies] == [body["id"]]
    assert desk.published[0].correlation_id == "c1"
    assert desk.journal.unfinished() == []


def test_a_request_for_any_host_is_stored_run_and_acked_by_who_runs_it(desk: Desk) -> None:
    body = request(body=CREATE)
    came = delivery(body, shared=True, count=2)
    assert desk.receive(came) == []
    ((served, attempts),) = desk.served
    assert (type(served), str(served.id), attempts) == (AnyRequest, body["id"], 2)
    assert desk.settled == []
    desk.settlements[0]()
    assert desk.settled == [came]


def test_one_that_comes_twice_is_acked_twice_when_it_is_finished(desk: Desk) -> None:
    body = request(body=CREATE)
    assert desk.receive(delivery(body, shared=True), delivery(body, shared=True)) == []
    assert len(desk.settlements) == 2
    desk.journal.finish(body["id"], b"reply")
    again = delivery(body, shared=True)
    assert desk.receive(again) == [again]
    assert [one.body for one in desk.replayed] == [b"reply"]
    assert len(desk.served) == 2


def test_a_request_for_any_host_that_also_comes_to_this_one_is_kept(desk: Desk) -> None:
    body = request(body=CREATE)
    desk.receive(delivery(body, shared=True))
    own = delivery(body)
    assert desk.receive(own) == [own]
    assert [str(one.id) for one in desk.kept] == [body["id"]]
    assert desk.submitted == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (PING, ErrorCode.UNKNOWN_COMMAND),
        ({"command": "deleteVolume", "volume": "web"}, ErrorCode.INVALID_COMMAND),
    ],
)
def test_what_any_host_may_not_do_is_refused(desk: Desk, body: Mapping[str, Any], code: ErrorCode) -> None:
    bad = delivery(request(body=body), shared=True)
    assert desk.receive(bad) == []
    assert (desk.replies[0]["code"], desk.dead[0].headers["code"], desk.served) == (code, code, [])
    desk.dead[0].confirmed()
    assert desk.settled == [bad]


def test_what_cannot_be_stored_is_left_to_another_host_once(desk: Desk, mocker: MockerFixture) -> None:
    """A broken host answers fastest: it must not take the work of all."""
    mocker.patch.object(desk.journal, "accept", side_effect=JournalUnavailable("full", path="/journal.db"))
    fresh = delivery(request(body=CREATE), shared=True)
    returned = delivery(request(body=CREATE), shared=True, count=1)
    assert desk.receive(fresh, returned) == []
    assert desk.declined == [fresh]
    assert [reply["code"] for reply in desk.replies] == [ErrorCode.JOURNAL_UNAVAILABLE]


def test_replies_are_correlated_by_the_request(desk: Desk) -> None:
    stored, refused = request(progress=True), request(body={"command": "reboot"})
    desk.receive(delivery(stored), delivery(refused), delivery(b"garbage"))
    said = [one.correlation_id or one.message_id for one in desk.published if one.exchange == "storpool.replies"]
    assert sorted(said) == sorted([stored["id"], refused["id"], "c1"])
