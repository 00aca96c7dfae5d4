# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent dies at each of its steps in a machine's move: run again, or rolled back, it ends as if it had not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fake_host import FakeHost
from storpool_agent import attempt as attempts
from storpool_agent.handlers import departing
from storpool_agent.migration_errors import MigrationFailed
from storpool_commands.envelope import Success
from two_fake_hosts import TwoFakeHosts

POINTS = {
    "prepareMigration": [
        "machine:begin",
        "machine:done",
        "volumes:begin",
        "volumes:done",
        "ticket:begin",
        "noted",
        "ticket:done",
        "check:begin",
        "check:done",
        "attach:begin",
        "attach:done",
        "confirm:begin",
        "confirm:done",
        "device:begin",
        "device:done",
    ],
    "migrateVm": [
        "machine:begin",
        "machine:done",
        "destination:begin",
        "destination:done",
        "ticket:begin",
        "ticket:done",
        "look:begin",
        "look:done",
        "migrate:begin",
        "migrate:done",
        "result:begin",
        "result:done",
    ],
    "finishMigration": [
        "machine:begin",
        "machine:done",
        "left over:begin",
        "left over:done",
        "volumes:begin",
        "volumes:done",
        "check:begin",
        "check:done",
        "detach:begin",
        "detach:done",
        "device:begin",
        "device:done",
        "close:begin",
        "close:done",
    ],
}


class Died(BaseException):
    """The agent is no more: nothing is undone and nothing is written down."""


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoFakeHosts]:
    for name in ("kvm1", "kvm2"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(departing, "SETTLE_S", 0)
    made = TwoFakeHosts(tmp_path)
    yield made
    made.close()


@contextmanager
def dying_at(point: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The points that were passed."""
    passed: list[str] = []

    def crash_point(name: str) -> None:
        passed.append(name)
        if name == point:
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(attempts, "crash_point", crash_point)
        yield passed


def run_with_a_death(host: FakeHost, command: Any, point: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same request, again after the agent has died in it."""
    request = uuid4()
    with dying_at(f"{command.command}/{point}", monkeypatch), pytest.raises(Died):
        host.run(command, request_id=request)
    return host.run(command, request_id=request, attempt=2)


@pytest.mark.parametrize("point", POINTS["prepareMigration"])
def test_a_preparation_is_gone_on_with(hosts: TwoFakeHosts, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = run_with_a_death(hosts.kvm2, hosts.prepare(), point, monkeypatch)
    assert isinstance(reply, Success), reply
    result: Any = reply.result
    assert [one.attached_now for one in result.disks] == [True, True]
    hosts.kvm2.succeed(hosts.roll_back())
    assert hosts.only_at(1)


@pytest.mark.parametrize("point", POINTS["prepareMigration"])
def test_a_preparation_that_nobody_goes_on_with_is_taken_back(
    hosts: TwoFakeHosts, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dying_at(f"prepareMigration/{point}", monkeypatch), pytest.raises(Died):
        hosts.kvm2.run(hosts.prepare())
    hosts.kvm2.succeed(hosts.roll_back())
    assert hosts.only_at(1)
    assert not hosts.kvm2.journal.tickets.under_way()


@pytest.mark.parametrize("point", POINTS["migrateVm"])
def test_a_machine_on_its_way_is_brought_there(
    hosts: TwoFakeHosts, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    reply = run_with_a_death(hosts.kvm1, hosts.send(), point, monkeypatch)
    assert isinstance(reply, Success), reply
    assert hosts.running() == ["kvm2"]
    hosts.kvm2.succeed(hosts.finish())
    hosts.kvm1.succeed(hosts.finish())
    assert hosts.only_at(2)


@pytest.mark.parametrize("point", POINTS["migrateVm"])
def test_a_driver_that_sends_it_anew_brings_it_there_too(
    hosts: TwoFakeHosts, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    with dying_at(f"migrateVm/{point}", monkeypatch), pytest.raises(Died):
        hosts.kvm1.run(hosts.send())
    hosts.kvm1.succeed(hosts.send())
    assert hosts.running() == ["kvm2"]


OF_THE_DESTINATION = ("machine", "volumes", "close")


@pytest.mark.parametrize(
    "point", [one for one in POINTS["finishMigration"] if one.partition(":")[0] in OF_THE_DESTINATION]
)
def test_an_end_of_the_destination_is_gone_on_with(
    hosts: TwoFakeHosts, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.succeed(hosts.send())
    assert isinstance(run_with_a_death(hosts.kvm2, hosts.finish(), point, monkeypatch), Success)
    hosts.kvm1.succeed(hosts.finish())
    assert hosts.only_at(2)


@pytest.mark.parametrize("point", POINTS["finishMigration"])
def test_an_end_of_the_source_is_gone_on_with(hosts: TwoFakeHosts, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.succeed(hosts.send())
    hosts.kvm2.succeed(hosts.finish())
    assert isinstance(run_with_a_death(hosts.kvm1, hosts.finish(), point, monkeypatch), Success)
    assert hosts.only_at(2)


@pytest.mark.parametrize("point", ["machine", "check", "detach", "device", "close"])
@pytest.mark.parametrize("when", ["begin", "done"])
def test_a_roll_back_of_the_destination_is_gone_on_with(
    hosts: TwoFakeHosts, point: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    reply = run_with_a_death(hosts.kvm2, hosts.roll_back(), f"{point}:{when}", monkeypatch)
    assert isinstance(reply, Success), reply
    assert hosts.only_at(1)
    assert not hosts.kvm2.journal.tickets.under_way()


@pytest.mark.parametrize("point", ["machine", "go on", "close"])
@pytest.mark.parametrize("when", ["begin", "done"])
def test_a_roll_back_of_the_source_is_gone_on_with(
    hosts: TwoFakeHosts, point: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.fail("send", MigrationFailed("no"))
    hosts.kvm1.run(hosts.send())
    hosts.machine.standing, hosts.machine.by_migration = "paused", True
    hosts.kvm2.succeed(hosts.roll_back())
    assert isinstance(run_with_a_death(hosts.kvm1, hosts.roll_back(), f"{point}:{when}", monkeypatch), Success)
    assert hosts.running() == ["kvm1"]
    assert hosts.only_at(1)


def test_these_are_all_the_points(hosts: TwoFakeHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    with dying_at("nowhere", monkeypatch) as passed:
        hosts.kvm2.succeed(hosts.prepare())
        hosts.kvm1.succeed(hosts.send())
        hosts.kvm2.succeed(hosts.finish())
        hosts.kvm1.succeed(hosts.finish())
    found = {name: {one.partition("/")[2] for one in passed if one.startswith(f"{name}/")} for name in POINTS}
    assert found == {name: set(points) for name, points in POINTS.items()}
