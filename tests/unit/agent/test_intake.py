# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From a delivery to what it becomes: a job, an answer, or a dead letter with its reason; acked when that is safe."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pytest_mock import MockerFixture
from structlog.testing import capture_logs

from storpool_agent import secrecy
from storpool_agent.bus.consumer import Delivery
from storpool_agent.bus.publisher import Message
from storpool_agent.errors import JournalUnavailable
from storpool_agent.intake import Intake
from storpool_agent.journal.journal import Journal, Outgoing
from storpool_agent.publishers import Grants, Publishers
from storpool_commands.envelope import AnyRequest, ControlRequest, Request, Success
from storpool_commands.errors import ErrorCode
from storpool_commands.parse import parse_request
from storpool_commands.pools import AddStoragePool

PING = {"command": "ping"}
CREATE = {"command": "createVolume", "sizeBytes": 512, "template": "dev"}


class Desk:
    """An intake whose neighbours only take notes."""

    def __init__(self, journal: Journal, mocker: MockerFixture, allowed: Grants | None = None) -> None:
        self.journal = journal
        self.submitted: list[Request] = []
        self.answered: list[ControlRequest] = []
        self.publishers: list[str | None] = []
        """Whom the jobs were told to be of."""
        self.published: list[Message] = []
        self.replayed: list[Outgoing] = []
        self.settled: list[Delivery] = []
        self.served: list[tuple[Request, int]] = []
        self.settlements: list[Callable[[], None]] = []
        self.kept: list[Request] = []
        self.declined: list[Delivery] = []
        jobs: Any = mocker.Mock(submit=self._submit, serve=self._serve, keep=self._keep)
        control: Any = mocker.Mock(answer=self._answer)
        outbox: Any = mocker.Mock(send=self.replayed.extend)
        publisher: Any = mocker.Mock(publish=self.published.append)
        self.intake = Intake("kvm1", journal, jobs, control, outbox, publisher, Publishers(allowed))
        self.intake.settle = self.settled.append
        self.intake.decline = self.declined.append

    def _submit(self, request: Request, *, publisher: str | None) -> None:
        self.submitted.append(request)
        self.publishers.append(publisher)

    def _keep(self, request: Request, publisher: str | None) -> None:
        self.kept.append(request)
        self.publishers.append(publisher)

    def _serve(self, request: Request, attempts: int, settle: Callable[[], None], publisher: str | None) -> None:
        self.served.append((request, attempts))
        self.settlements.append(settle)
        self.publishers.append(publisher)

    def _answer(self, asked: ControlRequest, say: Callable[[Success], None], publisher: str | None) -> None:
        self.answered.append(asked)
        self.publishers.append(publisher)
        say(_pong(asked))

    def receive(self, *deliveries: Delivery) -> list[Delivery]:
        return list(self.intake.receive(deliveries))

    @property
    def replies(self) -> list[dict[str, Any]]:
        return [json.loads(one.body) for one in self.published if one.exchange == "storpool.replies"]

    @property
    def dead(self) -> list[Message]:
        return [one for one in self.published if one.exchange == "storpool.dead"]


@pytest.fixture
def desk(journal: Journal, mocker: MockerFixture) -> Desk:
    return Desk(journal, mocker)


def delivery(
    body: Mapping[str, Any] | bytes,
    *,
    control: bool = False,
    reply_to: str | None = "mgmt",
    publisher: str | None = None,
    shared: bool = False,
    count: int = 0,
) -> Delivery:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    channel: Any = object()
    return Delivery(content, control, reply_to, "c1", publisher, 1, channel, shared, count)


def request(**changes: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), "protocol": 1, "body": PING, **changes}


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


SECRET = "storpool://canary4711@mgmt:81/ssd"
ADD = {"command": "addStoragePool", "name": "p", "url": SECRET}
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


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("publisher", [None, "mallory"])
def test_only_allowed_publishers_are_heard(
    journal: Journal, mocker: MockerFixture, control: bool, publisher: str | None
) -> None:
    desk = Desk(journal, mocker, {"mgmt": ["all"]})
    heard, unheard = request(), request()
    came = delivery(heard, control=control, publisher="mgmt")
    assert desk.receive(came, delivery(unheard, control=control, publisher=publisher)) == [came]
    assert (desk.replies[-1]["code"], desk.replies[-1]["id"]) == (ErrorCode.NOT_AUTHORIZED, unheard["id"])
    assert len(desk.dead) == 1
    assert desk.publishers == ["mgmt"]


def test_a_stranger_is_not_told_what_is_wrong_with_its_message(journal: Journal, mocker: MockerFixture) -> None:
    desk = Desk(journal, mocker, {"mgmt": ["all"]})
    desk.receive(delivery(b"garbage", publisher="mallory"), delivery(b"garbage", publisher="mgmt"))
    assert [reply["code"] for reply in desk.replies] == [ErrorCode.NOT_AUTHORIZED, ErrorCode.NOT_JSON]


@pytest.mark.parametrize(
    ("body", "shared"),
    [
        pytest.param({"command": "deleteVolume", "volume": "~a.b.c"}, False, id="to this host"),
        pytest.param({"command": "deleteVolume", "volume": "~a.b.c"}, True, id="to any host"),
    ],
)
def test_a_publisher_sends_the_commands_that_it_may(
    journal: Journal, mocker: MockerFixture, body: Mapping[str, Any], shared: bool
) -> None:
    desk = Desk(journal, mocker, {"backup": ["read", "copies", "takeSnapshot"]})
    taken = request(body={"command": "takeSnapshot", "volume": "~a.b.c"})
    refused = delivery(request(body=body), publisher="backup", shared=shared)
    desk.receive(delivery(taken, publisher="backup"), refused)
    assert [str(one.id) for one in desk.submitted] == [taken["id"]]
    assert [reply["code"] for reply in desk.replies] == [ErrorCode.NOT_AUTHORIZED]
    assert [dead.headers["code"] for dead in desk.dead] == [ErrorCode.NOT_AUTHORIZED]
    assert [str(record.id) for record in desk.journal.records(None, 10)] == [taken["id"]]
    assert desk.settled == []
    desk.dead[0].confirmed()
    assert desk.settled == [refused]


def test_a_control_command_that_it_may_not_send_is_refused(journal: Journal, mocker: MockerFixture) -> None:
    desk = Desk(journal, mocker, {"monitor": ["read"]})
    drain = request(body={"command": "drain", "on": True})
    desk.receive(
        delivery(drain, control=True, publisher="monitor"), delivery(request(), control=True, publisher="monitor")
    )
    assert [asked.body.command for asked in desk.answered] == ["ping"]
    assert desk.replies[0]["code"] == ErrorCode.NOT_AUTHORIZED
    assert "drain" in desk.replies[0]["message"]


def test_what_is_refused_to_a_stranger_is_dead_lettered_without_its_secret(
    journal: Journal, mocker: MockerFixture
) -> None:
    desk = Desk(journal, mocker, {"mgmt": ["all"]})
    desk.receive(delivery(request(body=ADD), publisher="mallory"))
    assert b"canary" not in desk.dead[0].body


def test_who_asks_for_what_is_in_the_log_once(desk: Desk) -> None:
    body = request(body=CREATE, dryRun=True)
    with capture_logs() as lines:
        desk.receive(delivery(body, publisher="cloud"), delivery(body, publisher="cloud"))
    (line,) = lines
    assert line == {
        "event": "accepted",
        "log_level": "info",
        "audit": True,
        "request": body["id"],
        "command": "createVolume",
        "publisher": "cloud",
        "args": {"size_bytes": 512, "template": "dev"},
        "dry_run": True,
    }


def test_a_control_command_that_changes_something_is_in_the_log_too(desk: Desk) -> None:
    level = request(body={"command": "setLogLevel", "level": "debug"})
    with capture_logs() as lines:
        desk.receive(delivery(level, control=True, publisher="cloud"), delivery(request(), control=True))
    assert [(line["event"], line["command"], line["publisher"]) for line in lines] == [
        ("accepted", "setLogLevel", "cloud")
    ]


def test_a_refusal_is_in_the_log_with_who_asked_for_what(journal: Journal, mocker: MockerFixture) -> None:
    desk = Desk(journal, mocker, {"mgmt": ["read"]})
    body = request(body=ADD)
    with capture_logs() as lines:
        desk.receive(delivery(body, publisher="mgmt"))
    (line,) = lines
    told = {name: line[name] for name in ("event", "audit", "request", "command", "publisher", "code")}
    assert told == {
        "event": "refused",
        "audit": True,
        "request": body["id"],
        "command": "addStoragePool",
        "publisher": "mgmt",
        "code": ErrorCode.NOT_AUTHORIZED,
    }
    assert "canary" not in str(line)


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


def _pong(asked: ControlRequest) -> Success:
    return Success.model_validate(
        {
            "id": asked.id,
            "host": "kvm1",
            "result": {"command": "ping", "host": "kvm1", "version": "1", "time": "2026-01-01T00:00:00Z"},
            "tookMs": 0.1,
        },
        strict=False,
    )
