# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The bytes that a client sends are a request that a host takes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from storpool_commands import topology
from storpool_commands.client.request import (
    PATIENCE_S,
    SILENCE_S,
    Terms,
    check_addressee,
    encode,
    exchange_of,
    is_bulk,
    patience_s,
)
from storpool_commands.control import Drain, Ping, QueryCommand, SetLogLevel
from storpool_commands.disks import AttachDisk, ConnectPhysicalDisk, DetachDisk
from storpool_commands.envelope import MAX_BODY_BYTES, PROGRESS_EVERY_S
from storpool_commands.parse import parse_any_request, parse_control_request, parse_request
from storpool_commands.pools import AddStoragePool
from storpool_commands.volumes import CreateVolume, DeleteVolume
from storpool_commands.wire import CommandModel
from unit.commands import copy_samples
from unit.commands.samples import COMMAND_SAMPLES, ID, wire_name


@pytest.mark.parametrize("command", COMMAND_SAMPLES, ids=wire_name)
def test_a_host_reads_what_was_meant(command: CommandModel[Any]) -> None:
    exchange = exchange_of(command)
    read = parse_control_request if exchange == topology.CONTROL else parse_request
    deadline = datetime(2026, 1, 31, 12, tzinfo=UTC)
    terms = Terms(deadline=deadline, dry_run=True, on_progress=print, traceparent=f"00-{'1' * 32}-{'2' * 16}-01")
    request = read(encode(command, ID, exchange, terms))
    assert request.body == command
    assert (request.id, request.deadline, request.traceparent) == (ID, deadline, terms.traceparent)
    assert (request.dry_run, request.progress) == (True, True)


def test_a_secret_is_sent_and_not_shown() -> None:
    url = "storpool://canary4711@mgmt:81/ssd"
    command = AddStoragePool(name="p", url=SecretStr(url))
    body = encode(command, ID, topology.COMMANDS, Terms())
    assert json.loads(body)["body"] == {"command": "addStoragePool", "name": "p", "url": url}
    assert parse_request(body).body == command
    assert "canary" not in f"{command!r} {command} {command.model_dump()} {parse_request(body)!r}"


def test_what_only_the_control_queue_takes_goes_there() -> None:
    assert exchange_of(Drain(on=True)) == exchange_of(SetLogLevel(level="debug")) == topology.CONTROL


def test_what_is_a_default_is_not_sent() -> None:
    body = encode(ConnectPhysicalDisk(volume="a", purpose="vm", timeout_s=30), ID, topology.COMMANDS, Terms())
    assert json.loads(body) == {
        "id": str(ID),
        "protocol": 1,
        "body": {"command": "connectPhysicalDisk", "volume": "a"},
    }


def test_ping_takes_the_exchange_that_it_is_sent_to() -> None:
    assert parse_control_request(encode(Ping(), ID, topology.CONTROL, Terms())).body == Ping()
    assert exchange_of(Ping()) == topology.COMMANDS


@pytest.mark.parametrize(
    ("command", "exchange"),
    [(AttachDisk(vm="v", volume="a"), topology.CONTROL), (QueryCommand(id=ID), topology.COMMANDS)],
)
def test_a_command_of_the_other_queue_cannot_be_made(command: CommandModel[Any], exchange: str) -> None:
    with pytest.raises(ValueError, match="no such request can be made"):
        encode(command, ID, exchange, Terms())


def test_a_deadline_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="timezone"):
        encode(Ping(), ID, topology.COMMANDS, Terms(deadline=datetime(2026, 1, 31)))  # noqa: DTZ001


def test_the_caller_waits_longer_than_the_host_may_take() -> None:
    assert patience_s(Ping()) == PATIENCE_S
    assert patience_s(ConnectPhysicalDisk(volume="a", timeout_s=100)) == PATIENCE_S + 100
    assert patience_s(DetachDisk(vm="v", volume="a", wait_guest_s=20, timeout_s=5)) == PATIENCE_S + 25


@pytest.mark.parametrize("command", copy_samples.COMMAND_SAMPLES, ids=wire_name)
def test_a_copy_is_waited_for_while_it_shows_signs_of_life(command: CommandModel[Any]) -> None:
    assert is_bulk(command)
    assert patience_s(command) == SILENCE_S > 2 * PROGRESS_EVERY_S
    assert json.loads(encode(command, ID, topology.COMMANDS, Terms()))["progress"] is True


def test_the_largest_request_fits() -> None:
    tags = {f"{number:02}{'k' * 197}": "v" * 199 for number in range(64)}
    body = encode(CreateVolume(size_bytes=512, template="t", tags=tags), ID, topology.COMMANDS, Terms())
    assert len(body) < MAX_BODY_BYTES


def test_any_host_is_sent_what_any_host_takes() -> None:
    body = encode(CreateVolume(size_bytes=512, template="t"), ID, topology.COMMANDS, Terms(), for_any=True)
    assert parse_any_request(body).body == CreateVolume(size_bytes=512, template="t")


@pytest.mark.parametrize(
    ("command", "exchange", "problem"),
    [
        (AttachDisk(vm="v", volume="a"), topology.COMMANDS, "attachDisk is for one host: say which, not any"),
        (copy_samples.COMMAND_SAMPLES[0], topology.COMMANDS, "downloadTemplate is for one host"),
        (Ping(), topology.COMMANDS, "ping is for one host"),
        (Ping(), topology.CONTROL, "ping goes to the control queue of one host"),
        (QueryCommand(id=ID), topology.CONTROL, "queryCommand goes to the control queue of one host"),
    ],
)
def test_any_host_cannot_be_asked_for_the_rest(command: CommandModel[Any], exchange: str, problem: str) -> None:
    check_addressee(command, "kvm1", exchange)
    with pytest.raises(ValueError, match=problem):
        check_addressee(command, "any", exchange)


def test_any_host_is_told_no_names() -> None:
    with pytest.raises(ValueError, match=r"body\.deleteVolume\.volume\n.*global id"):
        encode(DeleteVolume(volume="web"), ID, topology.COMMANDS, Terms(), for_any=True)
