# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the queue of all hosts takes: commands for StorPool alone, which name what they change by its global id."""

import json
from typing import Any, get_args

import pytest

from storpool_commands import catalogue, topology
from storpool_commands.envelope import AnyRequest, Request
from storpool_commands.errors import ErrorCode
from storpool_commands.parse import InvalidRequest, parse_any_request, parse_request
from storpool_commands.wire import CommandModel
from unit.commands.samples import COMMAND_SAMPLES, ID

ANY_COMMANDS: tuple[type[CommandModel[Any]], ...] = get_args(get_args(catalogue.AnyCommand)[0])
CREATING = {"createVolume", "createVolumeFromTemplate", "createVolumeFromSnapshot"}

BY_ID, BY_PATH, BY_NAME = "~a.b.c", "/dev/storpool-byid/a.b.c", "web"
CHANGING: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("deleteVolume", "volume", {}),
    ("updateVolume", "volume", {"iops": 1}),
    ("setQosTier", "volume", {"tier": "gold"}),
    ("fenceVolumes", "volumes", {"confirmFenced": True, "reason": "its host is off"}),
    ("takeSnapshot", "volume", {}),
    ("deleteSnapshot", "snapshot", {}),
    ("deleteTemplate", "snapshot", {}),
    ("revertSnapshot", "volume", {"snapshot": BY_ID}),
    ("revertSnapshot", "snapshot", {"volume": BY_ID}),
    ("StorPoolCreateTagsCmd", "volumes", {"set": {"a": "b"}}),
    ("StorPoolDeleteTagsCmd", "volumes", {"remove": ["a"]}),
)


def message(body: dict[str, Any]) -> bytes:
    return json.dumps({"id": str(ID), "protocol": 1, "body": body}).encode()


def changing(command: str, field: str, rest: dict[str, Any], reference: str) -> bytes:
    value = [BY_ID, reference] if field == "volumes" else reference
    return message({"command": command, field: value, **rest})


def test_every_command_that_changes_something_is_looked_at() -> None:
    known = {model.model_fields["command"].default for model in ANY_COMMANDS}
    assert {command for command, _, _ in CHANGING} == known - CREATING


@pytest.mark.parametrize(("command", "field", "rest"), CHANGING)
@pytest.mark.parametrize("reference", [BY_ID, BY_PATH])
def test_a_global_id_stays_with_its_object(command: str, field: str, rest: dict[str, Any], reference: str) -> None:
    assert parse_any_request(changing(command, field, rest, reference)).body.command == command


@pytest.mark.parametrize(("command", "field", "rest"), CHANGING)
@pytest.mark.parametrize("reference", [BY_NAME, "/dev/storpool/web"])
def test_a_name_may_move_to_another_object(command: str, field: str, rest: dict[str, Any], reference: str) -> None:
    body = changing(command, field, rest, reference)
    parse_request(body)
    with pytest.raises(InvalidRequest, match=r"global id.*another may run the command again") as refusal:
        parse_any_request(body)
    where = f"body.{command}.{field}" + (".1" if field == "volumes" else "")
    assert (refusal.value.code, refusal.value.facts) == (ErrorCode.INVALID_COMMAND, {"field": where})
    assert refusal.value.request_id == ID
    assert BY_NAME not in str(refusal.value)


def test_what_a_new_volume_begins_as_may_be_named() -> None:
    body = {"command": "createVolumeFromSnapshot", "snapshot": "golden", "template": "dev", "name": "web"}
    assert parse_any_request(message(body)).body.command == "createVolumeFromSnapshot"


def test_what_needs_a_host_is_unknown_here() -> None:
    others = [one for one in COMMAND_SAMPLES if not isinstance(one, ANY_COMMANDS)]
    assert others
    for command in others:
        said = command.model_dump(mode="json", by_alias=True)
        with pytest.raises(InvalidRequest) as refusal:
            parse_any_request(message(said))
        assert refusal.value.code in {ErrorCode.UNKNOWN_COMMAND, ErrorCode.INVALID_REQUEST}


def test_it_is_a_request_like_any_other() -> None:
    request = parse_any_request(message({"command": "deleteVolume", "volume": BY_ID}))
    assert isinstance(request, AnyRequest)
    assert isinstance(request, Request)


def test_its_key_is_that_of_no_host() -> None:
    assert topology.command_key(topology.ANY_HOST) == topology.any_key() == "any"
    assert topology.command_key("kvm1") == topology.host_key("kvm1") != topology.any_key()
