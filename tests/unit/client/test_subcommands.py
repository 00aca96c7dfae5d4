# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The command line has every command, and every field as an option."""

from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, SecretStr

from storpool_commands.client.cli import fields
from storpool_commands.client.cli.app import program, subcommand_name
from storpool_commands.client.cli.values import PointInTime, Size
from storpool_commands.copies import BackupSnapshot
from storpool_commands.pools import AddStoragePool
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
def test_every_command_can_be_written_as_options(sample: CommandModel[Any], tmp_path: Path) -> None:
    name = subcommand_name(wire_name(sample))
    command = click.Command(name, params=list(fields.options(type(sample))))
    context = command.make_context(name, list(_written(sample, tmp_path)))
    assert fields.made(type(sample), context.params) == sample


def read_secret(given: str, stdin: str = "") -> AddStoragePool:
    """What add-storage-pool makes of its options."""
    got: list[Any] = []
    command = click.Command("add", params=list(fields.options(AddStoragePool)), callback=lambda **it: got.append(it))
    result = CliRunner().invoke(command, ["--name", "p", "--url-file", given], input=stdin, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return fields.made(AddStoragePool, got[0])


def test_a_secret_comes_from_a_file_or_from_stdin(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("storpool://token@h:1/t\n# more\n")
    expected = AddStoragePool(name="p", url=SecretStr("storpool://token@h:1/t"))
    assert read_secret(str(file)) == read_secret("-", "storpool://token@h:1/t\n") == expected


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), (b"\n", "its first line is empty"), (b"\xff", "not text in UTF-8")]
)
def test_a_secret_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(click.BadParameter, match=f"{file}: {says}"):
        read_secret(str(file))


def test_a_secret_is_no_argument() -> None:
    """--url of add-storage-pool is the broker's, as everywhere."""
    result = CliRunner().invoke(program, ["add-storage-pool", "--host", "h", "--name", "p", "--url", "amqp://b"])
    assert result.exit_code == 2
    assert "Missing option '--url-file'" in result.stderr


@pytest.mark.parametrize("sample", COMMAND_SAMPLES, ids=wire_name)
def test_every_subcommand_has_its_help(sample: CommandModel[Any]) -> None:
    name = subcommand_name(wire_name(sample))
    result = CliRunner().invoke(program, [name, "--help"])
    assert result.exit_code == 0
    assert f"On the wire: {wire_name(sample)}" in result.stdout


def test_it_says_which_version_it_is() -> None:
    result = CliRunner().invoke(program, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"storpool-ctl, version {version('storpool-agent')}\n")


BACKUP = ["backup-snapshot", "--host", "h", "--snapshot", "a", "--target-store", "nfs://nas/a"]
TEMPLATE = ["create-template-from-volume", "--host", "h", "--volume", "a"]
DOWNLOAD = ["download-template", "--host", "h", "--template", "t", "--source-format", "raw"]


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
        (["backup-snapshot", "--host", "h", "--snapshot", "a"], "Missing option '--target-store'"),
        ([*BACKUP, "--target-path", "../a"], "--target-path: a part of the path is `.` or `..`"),
        ([*BACKUP, "--target-path", "a", "--format", "raw", "--compress"], "only a qcow2 is compressed"),
        ([*BACKUP, "--target-path", "a", "--bandwidth-bytes-s", "1"], "--bandwidth-bytes-s: Input should be greater"),
        ([*TEMPLATE, "--target-path", "a"], "--target-store: Field required"),
        ([*TEMPLATE], "give the target, or backup false"),
        ([*DOWNLOAD], "--source-...: give store and path, or url"),
        ([*DOWNLOAD, "--source-url", "http://h/a"], "--source-...: an http:// url needs a checksum"),
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


def test_a_rate_may_have_a_unit_too() -> None:
    command = click.Command("backup", params=list(fields.options(BackupSnapshot)))
    written = [
        "--snapshot",
        "a",
        "--target-store",
        "nfs://nas/a",
        "--target-path",
        "b",
        "--bandwidth-bytes-s",
        "100MiB",
    ]
    made = fields.made(BackupSnapshot, command.make_context("backup", written).params)
    assert made.bandwidth_bytes_s == 100 << 20


def test_a_point_in_time_has_a_zone() -> None:
    assert isinstance(PointInTime()("+60"), datetime)
    assert PointInTime()("2026-01-31T12:00:00Z").tzinfo is not None
    with pytest.raises(click.BadParameter):
        PointInTime()("2026-01-31T12:00:00")


def _written(model: BaseModel, directory: Path, prefix: str = "--") -> Iterator[str]:
    """The options that an operator would write; secrets are in files."""
    for name in sorted(model.model_fields_set - {"command"}):
        flag = f"{prefix}{name.replace('_', '-')}"
        match getattr(model, name):
            case bool(value):
                yield flag if value else flag.replace("--", "--no-", 1)
            case BaseModel() as nested:
                yield from _written(nested, directory, f"{flag}-")
            case SecretStr() as secret:
                file = directory / name
                file.write_text(f"{secret.get_secret_value()}\n")
                yield from (f"{flag}-file", str(file))
            case dict(pairs):
                for key, value in pairs.items():
                    yield from (flag, f"{key}={value}")
            case list(items):
                for item in items:
                    pair = "=".join(str(each) for _, each in item) if isinstance(item, BaseModel) else item
                    yield from (flag, pair)
            case str() | int() | float() | UUID() as value:
                yield from (flag, str(value))
