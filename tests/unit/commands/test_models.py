# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The models of the wire: complete, frozen, and the same after a journey."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from storpool_commands import schema, wire
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.dry_run import DryRun
from storpool_commands.envelope import ControlRequest, Event, Request, parse_reply
from storpool_commands.errors import ErrorCode, Retry, retry_class
from storpool_commands.parse import parse_control_request, parse_request
from storpool_commands.wire import AnswerModel, CommandModel
from unit.commands.samples import (
    COMMAND_SAMPLES,
    COMMANDS,
    CONTROL_COMMANDS,
    EVENT,
    ID,
    NOW,
    REPLY_SAMPLES,
    RESULT_SAMPLES,
    RESULTS,
    wire_name,
)

SCHEMA = Path(__file__).parents[3] / "docs" / "commands.schema.json"
ALL_COMMANDS = tuple(dict.fromkeys((*COMMANDS, *CONTROL_COMMANDS)))


def _name(sample: BaseModel) -> str:
    return type(getattr(sample, "result", sample)).__name__


def test_every_command_and_every_result_has_a_sample() -> None:
    assert {type(sample) for sample in COMMAND_SAMPLES} == set(ALL_COMMANDS)
    assert {type(sample) for sample in RESULT_SAMPLES} == set(RESULTS)


@pytest.mark.parametrize("command", COMMAND_SAMPLES, ids=wire_name)
def test_a_command_is_the_same_after_the_journey(command: CommandModel[Any]) -> None:
    control = type(command) in CONTROL_COMMANDS
    fields: dict[str, Any] = {"id": ID, "protocol": 1, "deadline": NOW, "dry_run": True, "progress": True}
    fields["traceparent"] = f"00-{'1' * 32}-{'2' * 16}-01"
    fields["body"] = command
    sent = ControlRequest(**fields) if control else Request(**fields)
    body = sent.model_dump_json(by_alias=True).encode()
    received = parse_control_request(body) if control else parse_request(body)
    assert received == sent
    assert type(received.body) is type(command)


@pytest.mark.parametrize("reply", REPLY_SAMPLES, ids=_name)
def test_a_reply_is_the_same_after_the_journey(reply: BaseModel) -> None:
    received = parse_reply(reply.model_dump_json(by_alias=True).encode())
    assert received == reply
    assert type(getattr(received, "result", None)) is type(getattr(reply, "result", None))


def test_an_event_is_the_same_after_the_journey() -> None:
    assert Event.model_validate_json(EVENT.model_dump_json(by_alias=True)) == EVENT


@pytest.mark.parametrize("reply", [*REPLY_SAMPLES, EVENT], ids=_name)
def test_who_reads_an_answer_passes_over_what_a_newer_agent_has_added(reply: BaseModel) -> None:
    grown = _with_news(json.loads(reply.model_dump_json(by_alias=True)))
    body = json.dumps(grown).encode()
    assert (Event.model_validate_json(body) if reply is EVENT else parse_reply(body)) is not None


@pytest.mark.parametrize("model", ALL_COMMANDS, ids=wire_name)
def test_a_command_says_what_it_does_and_has_the_result_of_its_name(model: type[CommandModel[Any]]) -> None:
    assert model.__doc__
    assert model.__doc__.partition("\n")[0].endswith(".")
    assert wire_name(_result_of(model)) == wire_name(model)


def test_each_result_belongs_to_one_command() -> None:
    assert [_result_of(model) for model in ALL_COMMANDS] == list(
        dict.fromkeys(_result_of(model) for model in ALL_COMMANDS)
    )
    assert {_result_of(model) for model in ALL_COMMANDS} == set(RESULTS) - {DryRun}


@pytest.mark.parametrize("sample", [*COMMAND_SAMPLES, *RESULT_SAMPLES, *REPLY_SAMPLES, EVENT], ids=_name)
def test_nothing_on_the_wire_changes_once_it_is_made(sample: BaseModel) -> None:
    for name in type(sample).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(sample, name, None)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_is_a_word_with_a_retry_class(code: ErrorCode) -> None:
    assert code.value == code.name.lower().replace("_", "-")
    assert retry_class(code) in get_args(Retry)


def test_the_names_on_the_wire_are_camel_case() -> None:
    body = json.loads(ConnectPhysicalDisk(volume="a").model_dump_json(by_alias=True))
    assert set(body) >= {"timeoutS", "onRemoteAttached"}


def test_the_schema_in_the_repository_is_that_of_the_models() -> None:
    assert SCHEMA.read_text() == schema.text(), "make schema"


def test_the_schema_describes_what_is_inside_a_command() -> None:
    defined = json.loads(SCHEMA.read_text())["$defs"]
    assert all(field.get("description") for field in defined["StoredImage"]["properties"].values())
    assert "md5" in defined["ImageSource"]["properties"]["checksum"]["description"]


def test_answers_and_commands_differ_in_what_they_do_with_the_unknown() -> None:
    assert wire.WireModel.model_config["extra"] == "forbid"
    assert AnswerModel.model_config["extra"] == "ignore"
    assert all(model.model_config["extra"] == "ignore" for model in RESULTS)
    assert all(model.model_config["extra"] == "forbid" for model in ALL_COMMANDS)


def _result_of(model: type[CommandModel[Any]]) -> type[AnswerModel]:
    for base in model.__mro__:
        metadata: Any = getattr(base, "__pydantic_generic_metadata__", {})
        if metadata.get("origin") is CommandModel:
            result: type[AnswerModel] = metadata["args"][0]
            return result
    raise AssertionError(f"{model} has no result")


def _with_news(value: Any) -> Any:
    """The same JSON, with one more key in every object that a model reads."""
    free = {"facts", "reply", "data", "tags", "objects"}
    if isinstance(value, list):
        return [_with_news(each) for each in value]
    if isinstance(value, dict):
        if value.keys() == {"globalId", "before", "after"}:  # a TaggedVolume: before and after are tags
            free |= value.keys()
        grown = {key: each if key in free else _with_news(each) for key, each in value.items()}
        return {**grown, "addedLater": {"x": 1}}
    return value
