# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The command line has every command, and every field as an option."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from storpool_commands.client.cli import fields
from storpool_commands.client.cli.app import program, subcommand_name
from storpool_commands.client.cli.values import PointInTime, Size
from storpool_commands.wire import CommandModel
from unit.commands.samples import COMMAND_SAMPLES, wire_name


@pytest.mark.parametrize(
    ("wire", "name"),
    [
        ("connectPhysicalDisk", "connect-physical-disk"),
        ("disconnectPhysicalDiskByPath", "disconnect-physical-disk-by-path"),
        ("StorpoolResizeCmd", "storpool-resize"),
        ("StorPoolCreateTagsCmd", "storpool-create-tags"),
        ("ping", "ping"),
    ],
)
def test_a_subcommand_is_called_as_on_the_wire(wire: str, name: str) -> None:
    assert subcommand_name(wire) == name


@pytest.mark.parametrize("sample", COMMAND_SAMPLES, ids=wire_name)
def test_every_command_can_be_written_as_options(sample: CommandModel[Any]) -> None:
    name = subcommand_name(wire_name(sample))
    command = click.Command(name, params=list(fields.options(type(sample))))
    context = command.make_context(name, list(_written(sample)))
    assert type(sample)(**fields.values(type(sample), context.params)) == sample


@pytest.mark.parametrize("sample", COMMAND_SAMPLES, ids=wire_name)
def test_every_subcommand_has_its_help(sample: CommandModel[Any]) -> None:
    name = subcommand_name(wire_name(sample))
    result = CliRunner().invoke(program, [name, "--help"])
    assert result.exit_code == 0
    assert f"On the wire: {wire_name(sample)}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["connect-physical-disk", "--host", "h"], "give either volume or snapshot"),
        (["connect-physical-disk", "--host", "h", "--volume", "/dev/sda"], "--volume: must be /dev/storpool/"),
        (["attach-disk", "--host", "h", "--vm", "v"], "Missing option '--volume'"),
        (["attach-disk", "--host", "h", "--vm", "v", "--volume", "a", "--bus", "ide"], "'ide' is not one of"),
        (["disconnect-physical-disk", "--host", "h", "--volume", "a", "--force"], "force needs a reason"),
        (["create-volume", "--host", "h", "--template", "t", "--size-bytes", "1 GB"], "GiB"),
        (["create-volume", "--host", "h", "--template", "t", "--size-bytes", "1", "--tags", "x"], "key=value"),
        (["ping", "--host", "h", "--deadline", "tomorrow"], "+60"),
        (["ping"], "--host is needed"),
        (["ping", "--host", "a.b"], "pattern"),
        (["ping", "--host", "h", "--url", "http://x"], "amqp"),
        (["format-disk"], "No such command"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_sent(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(program, arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("512", 512), ("1K", 1024), ("10GiB", 10 * 2**30), ("3T", 3 * 2**40), ("1PiB", 2**50)]
)
def test_a_size_may_have_a_unit(text: str, size_bytes: int) -> None:
    assert Size()(text) == size_bytes


def test_a_point_in_time_has_a_zone() -> None:
    assert isinstance(PointInTime()("+60"), datetime)
    assert PointInTime()("2026-01-31T12:00:00Z").tzinfo is not None
    with pytest.raises(click.BadParameter):
        PointInTime()("2026-01-31T12:00:00")


def _written(model: BaseModel, prefix: str = "--") -> Iterator[str]:
    """The options that an operator would write."""
    for name in sorted(model.model_fields_set - {"command"}):
        flag = f"{prefix}{name.replace('_', '-')}"
        match getattr(model, name):
            case bool(value):
                yield flag if value else flag.replace("--", "--no-", 1)
            case BaseModel() as nested:
                yield from _written(nested, f"{flag}-")
            case dict(pairs):
                for key, value in pairs.items():
                    yield from (flag, f"{key}={value}")
            case str() | int() | float() | UUID() as value:
                yield from (flag, str(value))
