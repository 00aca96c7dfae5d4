# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""docs/protocol.md has every command, and nothing in it that agent or SDK would not take."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

from storpool_commands import catalogue, topology
from storpool_commands.envelope import Event, parse_reply
from storpool_commands.parse import parse_control_request, parse_request
from storpool_commands.references import parse

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
FENCE = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES: list[dict[str, Any]] = [json.loads(text) for text in FENCE.findall(DOCUMENT)]
REQUESTS = [one for one in EXAMPLES if "body" in one]
REPLIES = [one for one in EXAMPLES if "status" in one]
EVENTS = [one for one in EXAMPLES if "specversion" in one]


def test_every_example_is_a_request_a_reply_or_an_event() -> None:
    assert len(REQUESTS) + len(REPLIES) + len(EVENTS) == len(EXAMPLES)


@pytest.mark.parametrize("request_example", REQUESTS, ids=lambda one: one["body"]["command"])
def test_the_agent_takes_each_request(request_example: dict[str, Any]) -> None:
    is_control = request_example["body"]["command"] in names(catalogue.ControlCommand) - names(catalogue.Command)
    (parse_control_request if is_control else parse_request)(json.dumps(request_example).encode())


@pytest.mark.parametrize("reply", REPLIES, ids=lambda one: one["status"])
def test_each_reply_is_as_the_agent_writes_it(reply: dict[str, Any]) -> None:
    assert json.loads(parse_reply(json.dumps(reply).encode()).model_dump_json(by_alias=True)) == reply


@pytest.mark.parametrize("event", EVENTS, ids=lambda one: one["type"])
def test_each_event_is_as_the_agent_writes_it(event: dict[str, Any]) -> None:
    assert json.loads(Event.model_validate_json(json.dumps(event)).model_dump_json(by_alias=True)) == event


def test_every_command_has_a_request_and_a_reply() -> None:
    commands = names(catalogue.Command) | names(catalogue.ControlCommand)
    assert {one["body"]["command"] for one in REQUESTS} == commands
    assert {one["result"]["command"] for one in REPLIES if "result" in one} == commands | {"dryRun"}


def test_every_field_of_every_command_is_mentioned() -> None:
    models = [*models_of(catalogue.Command), *models_of(catalogue.ControlCommand)]
    fields = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert {field for field in fields if not re.search(rf"[`\"]{field}[`\":]", DOCUMENT)} == set()


def test_every_object_on_the_broker_is_in_the_table() -> None:
    objects = {
        *topology.EXCHANGES,
        topology.DEAD_LETTERS,
        topology.ANY_QUEUE,
        topology.host_queue("<host>"),
        topology.control_queue("<host>"),
    }
    assert {name for name in objects if f"`{name}`" not in DOCUMENT} == set()
    arguments = [
        topology.host_queue_arguments(),
        topology.any_queue_arguments(),
        topology.control_queue_arguments(),
        topology.dead_letters_arguments(),
    ]
    written = {f"`{key}: {json.dumps(value).strip(chr(34))}`" for each in arguments for key, value in each.items()}
    assert {one for one in written if one not in DOCUMENT} == set()


@pytest.mark.parametrize("size_bytes", [1, 1 << 20, (2 << 20) + 512], ids=["a byte", "one block", "two and a bit"])
def test_the_block_hash_is_what_readers_compute_by_either_way(size_bytes: int, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(hashlib.shake_128(b"disk").digest(size_bytes))
    [program] = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    [by_hand] = re.findall(r"^```sh\n(split .*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    computed = output([sys.executable, "-c", program, disk.name], tmp_path)
    assert computed == f"sha256-1m:{output(['bash', '-c', by_hand], tmp_path).removesuffix('  -')}"
    assert output([sys.executable, "-c", program, disk.name, str(size_bytes)], tmp_path) == computed


@pytest.mark.parametrize("spelling", ["/dev/storpool-byid/d.n.a2", "~d.n.a2", "/dev/storpool/disk1", "disk1"])
def test_the_four_spellings_of_a_volume_are_the_parsers(spelling: str) -> None:
    assert str(parse(spelling)) in {"~d.n.a2", "disk1"}


def output(command: list[str], directory: Path) -> str:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout.rstrip("\n")


def models_of(union: Any) -> Iterable[Any]:
    return get_args(get_args(union)[0])


def names(union: Any) -> set[str]:
    return {model.model_fields["command"].default for model in models_of(union)}
