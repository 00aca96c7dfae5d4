# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who may send which requests, and what the log has of them for an audit."""

from collections.abc import Mapping
from typing import Any

import pytest
from pytest_mock import MockerFixture
from structlog.testing import capture_logs

from storpool_agent.journal.journal import Journal
from storpool_commands.errors import ErrorCode
from unit.agent.intake_desk import ADD, CREATE, Desk, delivery, request


@pytest.fixture
def desk(journal: Journal, mocker: MockerFixture) -> Desk:
    return Desk(journal, mocker)


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
