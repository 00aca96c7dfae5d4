# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every message that is no request is refused with its code, and never repeated in the message."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storpool_commands.envelope import MAX_BODY_BYTES
from storpool_commands.errors import ErrorCode
from storpool_commands.parse import InvalidRequest, parse_control_request, parse_request
from unit.commands.samples import COMMAND_SAMPLES, ID

CONNECT = {"command": "connectPhysicalDisk", "volume": "~a.b.c"}
RESIZE = {"command": "StorpoolResizeCmd", "volume": "~a.b.c", "newSizeBytes": 512}
CANARY = "canary4711"

NOT_JSON = ErrorCode.NOT_JSON
INVALID_REQUEST = ErrorCode.INVALID_REQUEST
INVALID_COMMAND = ErrorCode.INVALID_COMMAND
UNKNOWN_FIELD = ErrorCode.UNKNOWN_FIELD
UNKNOWN_COMMAND = ErrorCode.UNKNOWN_COMMAND
UNSUPPORTED_PROTOCOL = ErrorCode.UNSUPPORTED_PROTOCOL


def request(**changes: Any) -> dict[str, Any]:
    return {"id": str(ID), "protocol": 1, "body": CONNECT, **changes}


def raw(text: str) -> bytes:
    """A request with something in its body that json.dumps does not write."""
    return f'{{"id": "{ID}", "protocol": 1, "body": {text}}}'.encode()


def refused(message: bytes | dict[str, Any]) -> InvalidRequest:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    with pytest.raises(InvalidRequest) as raised:
        parse_request(body)
    return raised.value


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", NOT_JSON, id="nothing"),
        pytest.param(b"{", NOT_JSON, id="half an object"),
        pytest.param(b"\xff\xfe\x00", NOT_JSON, id="no UTF-8"),
        pytest.param(json.dumps(request()).encode("utf-16"), NOT_JSON, id="UTF-16"),
        pytest.param(b"{'id': 1}", NOT_JSON, id="single quotes"),
        pytest.param(b"[" * 100_000, NOT_JSON, id="deep brackets"),
        pytest.param(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, NOT_JSON, id="deep objects"),
        pytest.param(raw('{"command": "connectPhysicalDisk", "volume": "\\ud800"}'), NOT_JSON, id="lone surrogate"),
        pytest.param(raw('{"command": "ping"}}'), NOT_JSON, id="something after it"),
        pytest.param(raw(f'{{"command": "ping", "x": {"9" * 5000}}}'), NOT_JSON, id="number of 5000 digits"),
        pytest.param(raw('{"command": "ping", "command": "ping"}'), NOT_JSON, id="key twice"),
        pytest.param(b'{"protocol": 2, ' + raw('{"command": "ping"}')[1:], NOT_JSON, id="protocol twice"),
        pytest.param(b"[]", INVALID_REQUEST, id="list"),
        pytest.param(b"null", INVALID_REQUEST, id="null"),
        pytest.param(b"NaN", INVALID_REQUEST, id="NaN"),
        pytest.param(b'"text"', INVALID_REQUEST, id="text"),
        pytest.param(b"{}", INVALID_REQUEST, id="empty object"),
        pytest.param(b" " * (MAX_BODY_BYTES + 1), ErrorCode.MESSAGE_TOO_LARGE, id="too large"),
    ],
)
def test_what_is_no_request_at_all(body: bytes, code: ErrorCode) -> None:
    assert refused(body).code is code


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        pytest.param({"protocol": 2}, UNSUPPORTED_PROTOCOL, "protocol", id="protocol 2"),
        pytest.param({"protocol": "1"}, UNSUPPORTED_PROTOCOL, "protocol", id="protocol as text"),
        pytest.param({"protocol": True}, UNSUPPORTED_PROTOCOL, "protocol", id="protocol as bool"),
        pytest.param({"protocol": 1.0}, UNSUPPORTED_PROTOCOL, "protocol", id="protocol as float"),
        pytest.param({"protocol": 2, "new": 1}, UNSUPPORTED_PROTOCOL, "protocol", id="protocol 2 with its field"),
        pytest.param({"id": "4711"}, ErrorCode.INVALID_ID, "id", id="id no UUID"),
        pytest.param({"id": 4711}, ErrorCode.INVALID_ID, "id", id="id a number"),
        pytest.param({"id": None}, ErrorCode.INVALID_ID, "id", id="id null"),
        pytest.param({"unknown": 1}, UNKNOWN_FIELD, "unknown", id="unknown field"),
        pytest.param({"dry_run": True}, UNKNOWN_FIELD, "dry_run", id="snake case"),
        pytest.param({"dry_run": True, "dryRun": False}, UNKNOWN_FIELD, "dry_run", id="both spellings"),
        pytest.param({"a\nb": True}, UNKNOWN_FIELD, "?", id="field with a newline"),
        pytest.param({"x" * 50: True}, UNKNOWN_FIELD, "?", id="field with a long name"),
        pytest.param({"dryRun": 1}, INVALID_REQUEST, "dryRun", id="int for bool"),
        pytest.param({"dryRun": "true"}, INVALID_REQUEST, "dryRun", id="text for bool"),
        pytest.param({"deadline": "2026-01-31T12:00:00"}, INVALID_REQUEST, "deadline", id="deadline without zone"),
        pytest.param({"deadline": 1}, INVALID_REQUEST, "deadline", id="deadline a number"),
        pytest.param({"traceparent": "x"}, INVALID_REQUEST, "traceparent", id="no traceparent"),
        pytest.param(
            {"traceparent": f"00-{'0' * 32}-{'1' * 16}-01"}, INVALID_REQUEST, "traceparent", id="trace of zeroes"
        ),
        pytest.param(
            {"traceparent": f"00-{'1' * 32}-{'0' * 16}-01"}, INVALID_REQUEST, "traceparent", id="span of zeroes"
        ),
        pytest.param(
            {"traceparent": f"ff-{'1' * 32}-{'1' * 16}-01"}, INVALID_REQUEST, "traceparent", id="traceparent ff"
        ),
        pytest.param({"body": None}, INVALID_REQUEST, "body", id="body null"),
        pytest.param({"body": []}, INVALID_REQUEST, "body", id="body a list"),
        pytest.param({"body": {}}, INVALID_REQUEST, "body", id="body without command"),
        pytest.param({"body": {"command": "formatDisk"}}, UNKNOWN_COMMAND, "body", id="unknown command"),
        pytest.param({"body": {"command": 5}}, UNKNOWN_COMMAND, "body", id="command a number"),
        pytest.param(
            {"body": {"command": "queryCommand", "id": str(ID)}}, UNKNOWN_COMMAND, "body", id="of the control queue"
        ),
        pytest.param(
            {"body": {**CONNECT, "forse": True}}, UNKNOWN_FIELD, "body.connectPhysicalDisk.forse", id="misspelt field"
        ),
        pytest.param(
            {"body": {"command": "connectPhysicalDisk"}}, INVALID_COMMAND, "body.connectPhysicalDisk", id="no object"
        ),
        pytest.param(
            {"body": {**CONNECT, "snapshot": "a"}}, INVALID_COMMAND, "body.connectPhysicalDisk", id="two objects"
        ),
    ],
)
def test_what_is_wrong_with_a_request(changes: dict[str, Any], code: ErrorCode, field: str) -> None:
    error = refused(request(**changes))
    assert (error.code, error.facts["field"]) == (code, field)
    assert error.request_id == (None if "id" in changes else ID)


@pytest.mark.parametrize("missing", ["id", "protocol", "body"])
def test_what_a_request_has_to_have(missing: str) -> None:
    message = request()
    del message[missing]
    assert refused(message).code is INVALID_REQUEST


@pytest.mark.parametrize(
    "reference",
    [
        *("../../etc/passwd", "/dev/storpool/../sda", "/dev/storpool-byid/../sda", "/dev/sda", "/dev/storpool", "/"),
        *("/dev/storpool/", "/dev/storpool-byid/", "/dev/storpool//a", "/dev/storpool/a/b"),
        *("/dev/storpool-byid/~a.b.c", "file:///etc/passwd", "rbd:pool/image", "volume/a"),
        *("~", "~a", "~a.b", "~a.b.c.d", "~A.b.c", "~a..c", "~../../x", "~a.b.c\n"),
        *("a\nb", "a\n", "a\x00b", "a b", " a", "ä", "a\u2028b", "a%2e", "a;b", "$(a)"),
        *("", ".", "..", "-x", ".hidden", "#", "list", "status"),
        *("a" * 200, "a" * 300, "~" + "a" * 300 + ".b.c"),
    ],
)
def test_what_is_no_volume(reference: str) -> None:
    error = refused(request(body={**CONNECT, "volume": reference}))
    assert error.code is INVALID_COMMAND
    assert error.facts["field"] == "body.connectPhysicalDisk.volume"


@pytest.mark.parametrize(
    "path", ["~a.b.c", "disk-1", "/dev/sda", "/dev/storpool-byid/x", "/dev/storpool/../sda", "/dev/sp-1"]
)
def test_what_is_no_path_of_a_volume(path: str) -> None:
    body = {"command": "disconnectPhysicalDiskByPath", "path": path}
    assert refused(request(body=body)).code is INVALID_COMMAND


@pytest.mark.parametrize(
    "size", [0, -1, -512, 1, 513, 2**63, 2**63 - 1, 2**64, 10**400, 512.0, 0.5, "512", True, None, [512]]
)
def test_what_is_no_size(size: object) -> None:
    error = refused(request(body={**RESIZE, "newSizeBytes": size}))
    assert error.code in {INVALID_COMMAND, NOT_JSON}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "true", '"30"', "0", "-1", "3601"])
def test_what_is_no_timeout(value: str) -> None:
    body = raw(f'{{"command": "connectPhysicalDisk", "volume": "a", "timeoutS": {value}}}')
    assert refused(body).code is INVALID_COMMAND


@pytest.mark.parametrize(
    "body",
    [
        {"command": "disconnectPhysicalDisk", "volume": "a", "force": True},
        {**CONNECT, "volume": None, "snapshot": "a", "mode": "rw"},
        {**RESIZE, "shrinkOk": True},
        {**RESIZE, "notifyOnly": True, "iops": 1},
        {"command": "attachDisk", "vm": "v", "volume": "a", "iotune": {"totalIopsSec": 1, "readIopsSec": 1}},
        {"command": "attachDisk", "vm": "v", "volume": "a", "target": "hda"},
        {"command": "attachDisk", "vm": "<domain>", "volume": "a"},
        {"command": "attachDisk", "vm": "v", "volume": "a", "serial": "'><x"},
        {"command": "createVolume", "sizeBytes": 512, "template": "t", "tags": {"a b": "c"}},
        {"command": "createVolume", "sizeBytes": 512, "template": "t", "tags": {"a": 1}},
        {"command": "createVolume", "sizeBytes": 512, "template": "t", "tags": {f"k{n}": "" for n in range(65)}},
        {"command": "createVolume", "sizeBytes": 512, "template": "t", "name": ".."},
    ],
    ids=lambda body: ", ".join(f"{key}={value}" for key, value in body.items())[:60],
)
def test_what_contradicts_itself_or_could_be_taken_for_something_else(body: dict[str, Any]) -> None:
    assert refused(request(body=body)).code is INVALID_COMMAND


@pytest.mark.parametrize(
    "message",
    [
        f'{{"{CANARY} x": 1}}'.encode(),
        f"{CANARY}".encode(),
        request(id=CANARY),
        request(protocol=CANARY),
        request(deadline=CANARY),
        request(body=CANARY),
        request(body={"command": CANARY}),
        request(body={**CONNECT, "volume": f"/{CANARY}"}),
        request(body={**CONNECT, "timeoutS": CANARY}),
        request(body={**CONNECT, f"{CANARY} \n": 1}),
        request(**{f"{CANARY}{'x' * 100}": 1}),
        request(body={"command": "createVolume", "sizeBytes": 512, "template": "t", "tags": {f"/{CANARY}": CANARY}}),
        request(body={"command": "createVolume", "sizeBytes": 512, "template": "t", "tags": {"a": f"/{CANARY}"}}),
        request(body={"command": "attachDisk", "vm": f"<{CANARY}", "volume": "a"}),
        request(body={"command": "attachDisk", "vm": "v", "volume": "a", "iotune": {"totalIopsSec": CANARY}}),
    ],
)
def test_what_was_sent_is_not_repeated(message: bytes | dict[str, Any]) -> None:
    error = refused(message)
    assert CANARY not in f"{error!r} {error} {error.facts}"
    assert error.__cause__ is None
    assert error.__suppress_context__


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
BODIES = [json.loads(sample.model_dump_json(by_alias=True)) for sample in COMMAND_SAMPLES]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    _read(body)


@given(JSON)
def test_any_json_is_a_request_or_refused(value: object) -> None:
    _read(json.dumps(value).encode())


@given(st.data())
def test_any_change_to_a_request_leaves_a_request_or_is_refused(data: st.DataObject) -> None:
    body = dict(data.draw(st.sampled_from(BODIES)))
    message = request(body=body, deadline=None, dryRun=False)
    target = data.draw(st.sampled_from([body, message]))
    target[data.draw(st.sampled_from([*target, "other"]) | st.text(max_size=10))] = data.draw(JSON)
    _read(json.dumps(message).encode())


@given(st.data())
def test_a_request_that_was_damaged_on_its_way_is_a_request_or_refused(data: st.DataObject) -> None:
    body = bytearray(json.dumps(request(body=data.draw(st.sampled_from(BODIES)))).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    _read(bytes(body)[: data.draw(st.integers(0, len(body)))])


def _read(body: bytes) -> None:
    """Anything but InvalidRequest comes out of here and fails the test."""
    for parse in (parse_request, parse_control_request):
        with suppress(InvalidRequest):
            parse(body)
