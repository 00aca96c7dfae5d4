# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Messages that are no commands: each is answered with its own code, kept for whoever looks, and changes nothing."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from integration.agent.refusals import Scene, nothing_changes, refused
from storpool_commands import topology
from storpool_commands.envelope import MAX_BODY_BYTES
from storpool_commands.errors import ErrorCode

ID = str(uuid4())
"""Every test puts one of its own in its place."""
CONNECT = {"command": "connectPhysicalDisk", "volume": "~a.b.c"}
CREATE = {"command": "createVolume", "sizeBytes": 1 << 20, "template": "dev"}


def request(body: Any = CONNECT, **envelope: Any) -> dict[str, Any]:
    return {"id": ID, "protocol": 1, "body": body, **envelope}


def connect(**fields: Any) -> dict[str, Any]:
    return request({**CONNECT, **fields})


def create(**fields: Any) -> dict[str, Any]:
    return request({**CREATE, **fields})


BAD = [
    pytest.param(b"", ErrorCode.NOT_JSON, None, id="nothing"),
    pytest.param(b"attach volume 7, please", ErrorCode.NOT_JSON, None, id="prose"),
    pytest.param(b"\xff\xfe\x00", ErrorCode.NOT_JSON, None, id="not UTF-8"),
    pytest.param(json.dumps({"protocol": 1}).encode()[:-1], ErrorCode.NOT_JSON, None, id="cut off"),
    pytest.param(b"[" * 200_000, ErrorCode.NOT_JSON, None, id="nested 200,000 deep"),
    pytest.param(
        b'{"id": "%s", "id": "%s", "protocol": 1, "body": {"command": "ping"}}' % ((ID.encode(),) * 2),
        ErrorCode.NOT_JSON,
        None,
        id="the same key twice",
    ),
    pytest.param([1, 2, 3], ErrorCode.INVALID_REQUEST, None, id="an array"),
    pytest.param({"volume": "vm-1"}, ErrorCode.INVALID_REQUEST, None, id="another shape"),
    pytest.param(request([]), ErrorCode.INVALID_REQUEST, "body", id="a body that is a list"),
    pytest.param(request(deadline="tomorrow"), ErrorCode.INVALID_REQUEST, "deadline", id="a deadline in words"),
    pytest.param(request(priority=9), ErrorCode.UNKNOWN_FIELD, "priority", id="unknown field of the envelope"),
    pytest.param(
        connect(colour="red"),
        ErrorCode.UNKNOWN_FIELD,
        "body.connectPhysicalDisk.colour",
        id="unknown field of the command",
    ),
    pytest.param(request({"command": "rebootHost"}), ErrorCode.UNKNOWN_COMMAND, "body", id="unknown command"),
    pytest.param(request(protocol=2), ErrorCode.UNSUPPORTED_PROTOCOL, "protocol", id="protocol 2"),
    pytest.param(request(protocol="1"), ErrorCode.UNSUPPORTED_PROTOCOL, "protocol", id="protocol as text"),
    pytest.param(request(id="job-7"), ErrorCode.INVALID_ID, "id", id="an id that is no uuid"),
    pytest.param(request(id=7), ErrorCode.INVALID_ID, "id", id="an id that is a number"),
    *(
        pytest.param(connect(volume=volume), ErrorCode.INVALID_COMMAND, "body.connectPhysicalDisk.volume", id=name)
        for name, volume in {
            "a path out of the directory": "../../etc/passwd",
            "a path out of the directory, in it": "/dev/storpool/../sda",
            "another device": "/dev/sda",
            "a newline": "a\nb",
            "a tilde": "~",
            "300 characters": "a" * 300,
            "no characters": "",
            "a dot": ".",
            "a number": 7,
        }.items()
    ),
    pytest.param(
        request({"command": "disconnectPhysicalDiskByPath", "path": "/dev/sda"}),
        ErrorCode.INVALID_COMMAND,
        "body.disconnectPhysicalDiskByPath.path",
        id="another device, by path",
    ),
    *(
        pytest.param(
            create(sizeBytes=size), ErrorCode.INVALID_COMMAND, "body.createVolume.sizeBytes", id=f"size {size}"
        )
        for size in (0, -1, 513, 2**63, 2**70, 1.5, "512", True)
    ),
    pytest.param(
        request({"command": "StorpoolResizeCmd", "volume": "~a.b.c", "newSizeBytes": 513}),
        ErrorCode.INVALID_COMMAND,
        "body.StorpoolResizeCmd.newSizeBytes",
        id="grow to 513",
    ),
    pytest.param(
        request({"command": "attachDisk", "vm": "../vm", "volume": "~a.b.c"}),
        ErrorCode.INVALID_COMMAND,
        "body.attachDisk.vm",
        id="a machine that is a path",
    ),
    pytest.param(
        request({"command": "attachDisk", "vm": "vm", "volume": "~a.b.c", "target": "hda"}),
        ErrorCode.INVALID_COMMAND,
        "body.attachDisk.target",
        id="a target that no bus has",
    ),
]


@pytest.mark.parametrize(("message", "code", "field"), BAD)
def test_a_bad_message_is_answered_kept_and_without_effect(
    scene: Scene, message: Any, code: ErrorCode, field: str | None
) -> None:
    request_id = str(uuid4())
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    body = body.replace(ID.encode(), request_id.encode())
    with nothing_changes(scene.stack):
        scene.raw.publish(body)
        reply = scene.raw.next_reply()
        dead = scene.raw.dead_letter()
    refused(reply, code, facts={"field": field} if field else {})
    if field:
        assert reply["message"].startswith(f"{field}: ")
    assert reply["id"] == (request_id if request_id.encode() in body else None)
    assert dead.body == body
    assert dead.headers == {"code": code, "reason": reply["message"], "host": "kvm1"}
    assert _unknown(scene, request_id)


def test_ten_mebibytes_are_refused(scene: Scene) -> None:
    body = json.dumps(connect(volume="a" * (10 << 20))).encode()
    with nothing_changes(scene.stack):
        scene.raw.publish(body)
        reply = scene.raw.next_reply()
    facts = {"size_bytes": len(body), "max_bytes": MAX_BODY_BYTES}
    refused(reply, ErrorCode.MESSAGE_TOO_LARGE, says=(str(len(body)), str(MAX_BODY_BYTES)), facts=facts)
    assert scene.raw.dead_letter().body == body


def test_a_field_with_an_endless_name_is_refused_in_few_words(scene: Scene) -> None:
    """A reason as long as its message would not fit the frame that AMQP allows for headers."""
    scene.raw.publish(request({**CONNECT, "x" * 500_000: 1}, id=str(uuid4())))
    reply = scene.raw.next_reply()
    refused(reply, ErrorCode.UNKNOWN_FIELD)
    assert len(json.dumps(reply)) < 2000
    scene.raw.dead_letter()


def test_the_same_id_with_another_body_is_a_conflict(scene: Scene) -> None:
    first = scene.raw.ask(CREATE)
    made = scene.raw.reply(first)
    with nothing_changes(scene.stack):
        scene.raw.publish(request({**CREATE, "sizeBytes": 2 << 20}, id=first))
        scene.raw.wait_for(len(scene.raw.received) + 1)
        conflict = scene.raw.received.pop().json
    refused(conflict, ErrorCode.ID_CONFLICT, says=(first, "new id"))
    assert scene.raw.dead_letter().headers["code"] == ErrorCode.ID_CONFLICT
    assert _query(scene, first)["result"]["reply"] == made


def test_a_deadline_that_has_passed_is_not_started(scene: Scene) -> None:
    passed = datetime.now(UTC) - timedelta(seconds=1)
    with nothing_changes(scene.stack):
        reply = scene.send(CREATE, deadline=passed.isoformat())
    refused(reply, ErrorCode.DEADLINE_PASSED, says=(passed.isoformat(), "not started"))
    assert reply["steps"] == []
    assert _query(scene, reply["id"])["result"]["status"]["attempts"] == 0


def test_an_early_enough_deadline_is_kept(scene: Scene) -> None:
    reply = scene.send({"command": "ping"}, deadline=(datetime.now(UTC) + timedelta(minutes=1)).isoformat())
    assert reply["status"] == "success"


@pytest.mark.parametrize("word", ["two.words", "#", "*", "", "x" * 64, "sp ace"])
def test_a_reply_word_that_could_reach_others_is_not_used(scene: Scene, word: str) -> None:
    scene.raw.publish(b"not JSON", reply_to=word or None)
    assert scene.raw.dead_letter().headers["code"] == ErrorCode.NOT_JSON
    before = len(scene.raw.received)
    scene.raw.settle()
    assert len(scene.raw.received) == before + 1


def test_a_disk_command_has_no_place_on_the_control_queue(scene: Scene) -> None:
    with nothing_changes(scene.stack):
        scene.raw.publish(request(CREATE, id=str(uuid4())), exchange=topology.CONTROL)
        reply = scene.raw.next_reply()
    refused(reply, ErrorCode.UNKNOWN_COMMAND, says=("on this queue",))
    scene.raw.dead_letter()


def test_bad_messages_do_not_hold_up_good_ones(scene: Scene) -> None:
    ids = []
    for number in range(20):
        scene.raw.publish(b"garbage %d" % number)
        ids.append(scene.raw.ask({"command": "ping"}))
    assert [scene.raw.reply(one)["status"] for one in ids] == ["success"] * 20
    assert {scene.raw.dead_letter().body for _ in range(20)} == {b"garbage %d" % number for number in range(20)}
    scene.raw.settle()


def _query(scene: Scene, request_id: str) -> dict[str, Any]:
    """What the journal has on a request."""
    asked = str(uuid4())
    body = {"command": "queryCommand", "id": request_id}
    scene.raw.publish(request(body, id=asked), exchange=topology.CONTROL)
    reply = scene.raw.reply(asked)
    scene.raw.settle()
    return reply


def _unknown(scene: Scene, request_id: str) -> bool:
    return _query(scene, request_id).get("code") == ErrorCode.UNKNOWN_REQUEST
