# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`storpool-ctl migrate`: what its options mean."""

from uuid import UUID

import click
import pytest

from storpool_commands.client.cli import migrate
from storpool_commands.client.migrating import BEGIN_WITHIN_S, MigrationPlan
from storpool_commands.copies import MigrateVolume
from storpool_commands.encryption import Key
from storpool_commands.images import StoredImage

MIGRATION = "11111111-2222-4333-8444-555555555555"
VOLUME = '{"source": {"store": "file:///vms", "path": "a.qcow2"}, "sourceFormat": "qcow2", "template": "hybrid"}'


def planned(*arguments: str) -> MigrationPlan:
    context = migrate.command().make_context("migrate", ["m", "--from", "a", "--to", "b", *arguments])
    given = {name: value for name, value in context.params.items() if not name.startswith("send_")}
    return migrate.plan_of(given, None)


def test_a_plain_one_needs_the_machine_and_both_hosts() -> None:
    plan = planned("--migration", MIGRATION)
    assert plan == MigrationPlan("m", "a", "b", migration=UUID(MIGRATION), volumes=[], begin_within_s=BEGIN_WITHIN_S)


def test_each_one_has_an_id_of_its_own() -> None:
    assert planned().migration != planned().migration


def test_volumes_and_keys_and_limits_are_taken() -> None:
    plan = planned(
        *("--volume", VOLUME, "--disk-key", "a.b.c=file:root-key", "--disk-key", "a.b.d=credential:data"),
        *("--bandwidth", "10M", "--downtime-limit-ms", "50", "--no-auto-converge"),
    )
    image = StoredImage(store="file:///vms", path="a.qcow2")
    assert plan.volumes == [MigrateVolume(source=image, source_format="qcow2", template="hybrid", vm="m")]
    assert plan.keys == {"a.b.c": Key(file="root-key"), "a.b.d": Key(credential="data")}
    assert (plan.bandwidth_bytes_s, plan.downtime_limit_ms, plan.auto_converge) == (10 << 20, 50, False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--disk-key", "a.b.c=my passphrase"),
        ("--disk-key", "a.b.c=file:../etc/shadow"),
        ("--disk-key", "a.b.c"),
        ("--volume", "{}"),
        ("--volume", "[]"),
        ("--volume", '{"volume": "v", "template": "t", "odd": 1}'),
    ],
)
def test_what_is_wrong_is_wrong_usage_and_is_not_repeated(arguments: tuple[str, str]) -> None:
    with pytest.raises(click.UsageError) as caught:
        planned(*arguments)
    assert "passphrase" not in str(caught.value)
