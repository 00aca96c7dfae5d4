# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine moves between two hosts: it runs on one of them, and its volumes end up where it runs."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from fake_host import FakeHost
from fake_images import header
from fakes_domains import FakeMachine, FakePassage
from storpool_agent import dispatch
from storpool_agent.attempt import Attempt
from storpool_agent.domains.model import secret_uuid
from storpool_agent.errors import Cancelled, LibvirtTimeout, LibvirtUnavailable, StorPoolUnavailable
from storpool_agent.handlers import departing, tickets
from storpool_agent.interrupt import AgentStopping
from storpool_agent.migration_errors import DestinationUnreachable, MigrationFailed
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DisconnectPhysicalDisk,
    Holder,
    IoTune,
    SetDiskQos,
    StorpoolResize,
)
from storpool_commands.encryption import Encryption, Key
from storpool_commands.envelope import Failure, Request, Success
from storpool_commands.migration import DescribeMachine, MigrationDisk
from storpool_commands.volumes import FenceVolumes
from two_fake_hosts import MIGRATION, TwoFakeHosts


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoFakeHosts]:
    for name in ("kvm1", "kvm2"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(departing, "SETTLE_S", 0)
    monkeypatch.setattr(departing, "SETTLE_WHEN_STOPPING_S", 0)
    made = TwoFakeHosts(tmp_path)
    yield made
    made.close()


def move(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.succeed(hosts.send())
    hosts.kvm2.succeed(hosts.finish())
    hosts.kvm1.succeed(hosts.finish())


def code(reply: Success | Failure) -> str:
    assert isinstance(reply, Failure), reply
    return reply.code


# the whole way


def test_a_machine_moves_and_its_volumes_with_it(hosts: TwoFakeHosts) -> None:
    prepared = hosts.kvm2.succeed(hosts.prepare())
    assert [one.attached_now for one in prepared.disks] == [True, True]
    assert hosts.attached() == {one.global_id: [1, 2] for one in hosts.volumes}
    sent = hosts.kvm1.succeed(hosts.send())
    assert (sent.moved_now, sent.downtime_ms, sent.memory_bytes) == (True, 40, 1 << 30)
    assert hosts.running() == ["kvm2"]
    assert hosts.attached() == {one.global_id: [1, 2] for one in hosts.volumes}
    ids = [one.global_id for one in hosts.volumes]
    assert hosts.kvm2.succeed(hosts.finish()).attached == ids
    assert hosts.kvm1.succeed(hosts.finish()).detached == ids
    assert hosts.only_at(2)


def test_a_preparation_repeated_after_the_machine_has_come_says_the_same(hosts: TwoFakeHosts) -> None:
    first = hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.succeed(hosts.send())
    assert hosts.kvm2.succeed(hosts.prepare()) == first
    assert hosts.running() == ["kvm2"]


def test_it_moves_back_with_another_id(hosts: TwoFakeHosts) -> None:
    move(hosts)
    other = uuid4()
    hosts.kvm1.succeed(hosts.prepare(migration=other, source="kvm2"))
    hosts.kvm2.succeed(hosts.send(migration=other, destination="kvm1"))
    for host in (hosts.kvm1, hosts.kvm2):
        host.succeed(hosts.finish().model_copy(update={"migration": other}))
    assert hosts.only_at(1)
    assert hosts.running() == ["kvm1"]


def test_every_command_may_be_repeated(hosts: TwoFakeHosts) -> None:
    for host, command in (
        (hosts.kvm2, hosts.prepare()),
        (hosts.kvm1, hosts.send()),
        (hosts.kvm2, hosts.finish()),
        (hosts.kvm1, hosts.finish()),
    ):
        first, again = host.succeed(command), host.succeed(command)
        assert again.vm == first.vm
    assert hosts.only_at(2)
    assert hosts.running() == ["kvm2"]


def test_a_machine_is_described_with_what_another_host_needs(hosts: TwoFakeHosts) -> None:
    seen = hosts.kvm1.succeed(DescribeMachine(vm=hosts.machine.name))
    assert (seen.vm, seen.state, seen.persistent, seen.cpu) == (hosts.vm, "running", True, hosts.machine.cpu)
    assert [(one.target, one.global_id, one.mode) for one in seen.disks] == [
        ("vda", hosts.volumes[0].global_id, "rw"),
        ("vdb", hosts.volumes[1].global_id, "rw"),
    ]


def test_a_plan_of_each_command_changes_nothing(hosts: TwoFakeHosts) -> None:
    for host, command in ((hosts.kvm2, hosts.prepare()), (hosts.kvm1, hosts.send())):
        assert isinstance(host.plan(command), Success)
    assert hosts.only_at(1)
    assert hosts.running() == ["kvm1"]
    assert not hosts.kvm1.journal.tickets.under_way()
    assert not hosts.kvm2.journal.tickets.under_way()


# what the destination refuses


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"source": "kvm2"}, "invalid-command", id="itself"),
        pytest.param({"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, "migration-expired", id="expired"),
        pytest.param({"disks": [MigrationDisk(volume="~d.n.none")]}, "volume-not-found", id="no such volume"),
    ],
)
def test_a_destination_refuses_and_remembers_nothing(
    hosts: TwoFakeHosts, change: dict[str, Any], expected: str
) -> None:
    assert code(hosts.kvm2.run(hosts.prepare(**change))) == expected
    assert hosts.kvm2.journal.tickets.get(str(MIGRATION)) is None
    assert hosts.only_at(1)


def test_a_destination_that_cannot_give_the_cpu_says_so(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.domains.cpus = {"<cpu mode='other'/>"}
    assert code(hosts.kvm2.run(hosts.prepare())) == "cpu-incompatible"
    assert hosts.only_at(1)


def test_a_machine_of_the_same_name_is_in_the_way(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.domains.add(FakeMachine(hosts.machine.name))
    assert code(hosts.kvm2.run(hosts.prepare())) == "name-taken"


def test_a_machine_that_is_there_already_is_not_taken_again(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.domains.add(FakeMachine(hosts.machine.name, uuid=hosts.vm))
    assert code(hosts.kvm2.run(hosts.prepare())) == "migration-completed"


def test_a_volume_that_a_third_host_writes_is_refused(hosts: TwoFakeHosts) -> None:
    hosts.kvm1.storpool.attach_elsewhere(hosts.volumes[1], 3)
    assert code(hosts.kvm2.run(hosts.prepare())) == "attached-elsewhere"
    assert hosts.attached()[hosts.volumes[0].global_id] == [1]


def test_a_volume_of_an_older_generation_is_refused(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.journal.raise_fence(hosts.volumes[0].global_id, 5)
    disks = [MigrationDisk(volume=f"~{one.global_id}", generation=4) for one in hosts.volumes]
    assert code(hosts.kvm2.run(hosts.prepare(disks=disks))) == "stale-generation"


def test_a_destination_that_fails_half_way_takes_back_what_it_did(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.devices.sizes[hosts.volumes[1].global_id] = 512
    reply = hosts.kvm2.run(hosts.prepare())
    assert code(reply) == "device-mismatch"
    assert isinstance(reply, Failure)
    assert reply.side_effects == "none"
    assert hosts.only_at(1)
    assert hosts.kvm2.journal.tickets.get(str(MIGRATION)) is None


def test_what_could_not_be_taken_back_stays_in_the_ticket(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.devices.sizes[hosts.volumes[1].global_id] = 512
    lost = StorPoolUnavailable("gone")
    hosts.kvm2.storpool.failures["detach"] = [lost, lost]
    assert code(hosts.kvm2.run(hosts.prepare())) == "device-mismatch"
    ticket = hosts.kvm2.journal.tickets.get(str(MIGRATION))
    assert ticket is not None
    assert [one.attached_now for one in ticket.disks] == [True, True]
    hosts.kvm2.succeed(hosts.roll_back())
    assert hosts.only_at(1)


def test_a_repeated_preparation_that_fails_leaves_what_the_first_one_did(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm2.devices.sizes[hosts.volumes[1].global_id] = 512
    assert code(hosts.kvm2.run(hosts.prepare())) == "device-mismatch"
    assert hosts.attached() == {one.global_id: [1, 2] for one in hosts.volumes}
    assert hosts.kvm2.journal.tickets.get(str(MIGRATION)) is not None


def test_a_preparation_whose_agent_died_is_gone_on_with_and_taken_back_as_its_own(hosts: TwoFakeHosts) -> None:
    request, command = uuid4(), hosts.prepare()
    assert isinstance(hosts.kvm2.run(command, request_id=request), Success)
    assert isinstance(hosts.kvm2.run(command, request_id=request, attempt=2), Success)
    hosts.kvm2.devices.sizes[hosts.volumes[1].global_id] = 512
    assert code(hosts.kvm2.run(command, request_id=request, attempt=3)) == "device-mismatch"
    assert hosts.only_at(1)
    assert hosts.kvm2.journal.tickets.get(str(MIGRATION)) is None


# what the source refuses


def test_a_machine_with_a_volume_that_is_not_prepared_stays(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    reply = hosts.kvm1.run(hosts.send(disks=[f"~{hosts.volumes[0].global_id}"]))
    assert code(reply) == "disk-conflict"
    assert hosts.running() == ["kvm1"]
    assert hosts.kvm1.journal.tickets.get(str(MIGRATION)) is None


@pytest.mark.parametrize(
    ("alter", "expected"),
    [
        pytest.param(lambda machine: setattr(machine, "running", False), "vm-not-running", id="off"),
        pytest.param(lambda machine: setattr(machine, "standing", "paused"), "vm-not-running", id="paused"),
        pytest.param(lambda machine: setattr(machine, "standing", "leaving"), "vm-busy", id="by somebody else"),
    ],
)
def test_only_a_machine_that_runs_is_sent(
    hosts: TwoFakeHosts, alter: Callable[[FakeMachine], None], expected: str
) -> None:
    alter(hosts.machine)
    assert code(hosts.kvm1.run(hosts.send())) == expected


def test_a_machine_does_not_set_out_after_the_ticket_has_expired(hosts: TwoFakeHosts) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=tickets.CLOCKS_DIFFER_S / 2)
    assert code(hosts.kvm1.run(hosts.send(expires_at=soon))) == "migration-expired"
    assert hosts.running() == ["kvm1"]


def test_a_destination_that_cannot_be_asked_gets_no_machine(hosts: TwoFakeHosts) -> None:
    del hosts.kvm1.domains.peers["kvm2"]
    assert code(hosts.kvm1.run(hosts.send())) == "destination-unreachable"
    assert hosts.kvm1.journal.tickets.get(str(MIGRATION)) is None


def test_a_machine_whose_guest_is_asked_to_let_go_of_a_disk_stays(hosts: TwoFakeHosts) -> None:
    hosts.machine.answers = False
    volume = f"~{hosts.volumes[1].global_id}"
    assert code(hosts.kvm1.run(DetachDisk(vm=hosts.vm, volume=volume, wait_guest_s=0))) == "unplug-pending"
    assert code(hosts.kvm1.run(hosts.send())) == "unplug-pending"


# what becomes of it on the way


def stay(why: Exception) -> Callable[[FakePassage], None]:
    def fail(_passage: FakePassage) -> None:
        raise why

    return fail


@pytest.mark.parametrize(
    "why", [MigrationFailed("no"), Cancelled("by a test"), DestinationUnreachable("off")], ids=lambda why: str(why.code)
)
def test_a_machine_that_stayed_is_said_to_have_stayed_and_why(hosts: TwoFakeHosts, why: Any) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.on_send = stay(why)
    assert code(hosts.kvm1.run(hosts.send())) == why.code
    assert hosts.running() == ["kvm1"]
    hosts.kvm2.succeed(hosts.roll_back())
    hosts.kvm1.succeed(hosts.roll_back())
    assert hosts.only_at(1)


def test_it_may_be_sent_again_with_the_same_id_after_it_failed(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.fail("send", MigrationFailed("no"))
    assert code(hosts.kvm1.run(hosts.send())) == "migration-failed"
    hosts.kvm1.succeed(hosts.send())
    assert hosts.running() == ["kvm2"]


def test_a_lost_answer_is_read_off_the_two_hosts(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.lose_answer("send", LibvirtTimeout("libvirtd was restarted"))
    assert hosts.kvm1.succeed(hosts.send()).moved_now
    assert hosts.running() == ["kvm2"]


def test_a_cancel_that_comes_too_late_is_none(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.lose_answer("send", Cancelled("by a test"))
    assert hosts.kvm1.succeed(hosts.send()).moved_now


def arrive_unheard(passage: FakePassage) -> None:
    """All went well, and nobody was told: the agent died, or was stopped."""
    passage.arrive()
    passage.leave()
    raise AgentStopping


def test_a_machine_that_was_sent_by_an_agent_that_died_is_started_by_the_next(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    request, command = uuid4(), hosts.send()
    hosts.kvm1.domains.on_send = arrive_unheard
    hosts.kvm1.domains.fail("resume there", DestinationUnreachable("lost"))
    with pytest.raises(AgentStopping):
        hosts.kvm1.run(command, request_id=request)
    assert hosts.running() == []
    assert isinstance(hosts.kvm1.run(command, request_id=request, attempt=2), Success)
    assert hosts.running() == ["kvm2"]


def test_an_agent_that_stops_does_not_leave_the_machine_standing_still(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.on_send = arrive_unheard
    hosts.kvm1.succeed(hosts.send())
    assert hosts.running() == ["kvm2"]


def test_a_cancel_of_one_that_an_agent_died_in_still_looks_where_the_machine_is(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.on_send = arrive_unheard
    hosts.kvm1.domains.fail("resume there", DestinationUnreachable("lost"))
    request, command = uuid4(), hosts.send()
    with pytest.raises(AgentStopping):
        hosts.kvm1.run(command, request_id=request)
    again = Attempt(Request(id=request, protocol=1, body=command), hosts.kvm1.journal, 2)
    again.cancel()
    reply = dispatch.execute(Request(id=request, protocol=1, body=command), hosts.kvm1.host, again)
    assert isinstance(reply, Success)
    assert hosts.running() == ["kvm2"]


def test_a_cancel_before_it_has_set_out_leaves_it_where_it_is(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.fail("send", MigrationFailed("no"))
    hosts.kvm1.run(hosts.send())
    request = Request(id=uuid4(), protocol=1, body=hosts.send())
    attempt = Attempt(request, hosts.kvm1.journal, 1)
    attempt.cancel()
    assert code(dispatch.execute(request, hosts.kvm1.host, attempt)) == "cancelled"
    assert hosts.running() == ["kvm1"]


def test_one_that_is_under_way_is_watched_on(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.fail("send", LibvirtTimeout("silent"))
    assert code(hosts.kvm1.run(hosts.send())) == "libvirt-timeout"
    hosts.machine.standing = "leaving"

    def come(passage: FakePassage) -> None:
        passage.machine.standing = None
        passage.arrive()
        passage.leave()

    hosts.kvm1.domains.on_send = come
    hosts.kvm1.succeed(hosts.send())
    assert hosts.running() == ["kvm2"]


def test_a_libvirtd_that_died_before_it_heard_of_the_end_leaves_the_machine_to_the_agent(hosts: TwoFakeHosts) -> None:
    """Standing still on both: what is here goes first, then it goes on there."""
    hosts.kvm2.succeed(hosts.prepare())

    def lose(passage: FakePassage) -> None:
        passage.arrive()
        passage.stand_still()
        raise LibvirtTimeout("libvirtd was restarted")

    hosts.kvm1.domains.on_send = lose
    hosts.kvm1.succeed(hosts.send())
    assert hosts.running() == ["kvm2"]
    assert hosts.vm not in hosts.kvm1.domains.machines


def test_a_copy_that_never_ran_is_removed_when_the_machine_went_on_here(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())

    def lose(passage: FakePassage) -> None:
        passage.arrive()
        raise DestinationUnreachable("the network is cut")

    hosts.kvm1.domains.on_send = lose
    assert code(hosts.kvm1.run(hosts.send())) == "destination-unreachable"
    assert hosts.vm not in hosts.kvm2.domains.machines
    assert hosts.running() == ["kvm1"]


def test_a_machine_that_stands_still_here_alone_goes_on_by_a_roll_back(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())

    def lose(passage: FakePassage) -> None:
        passage.stand_still()
        raise LibvirtTimeout("libvirtd was restarted")

    hosts.kvm1.domains.on_send = lose
    assert code(hosts.kvm1.run(hosts.send())) == "migration-failed"
    assert hosts.running() == []
    assert code(hosts.kvm1.run(hosts.roll_back())) == "migration-unknown"  # the destination may write yet
    hosts.kvm2.succeed(hosts.roll_back())
    hosts.kvm1.succeed(hosts.roll_back())
    assert hosts.running() == ["kvm1"]
    assert hosts.only_at(1)


def test_it_goes_on_here_without_the_other_host_once_storpool_says_that_nobody_else_writes(
    hosts: TwoFakeHosts,
) -> None:
    hosts.kvm2.succeed(hosts.prepare())

    def lose(passage: FakePassage) -> None:
        passage.stand_still()
        raise LibvirtTimeout("libvirtd was restarted")

    hosts.kvm1.domains.on_send = lose
    hosts.kvm1.run(hosts.send())
    del hosts.kvm1.domains.peers["kvm2"]
    reply = hosts.kvm1.run(hosts.roll_back())
    assert code(reply) == "migration-unknown"
    assert isinstance(reply, Failure)
    assert "client 2" in reply.message
    hosts.kvm2.succeed(hosts.roll_back())
    hosts.kvm1.succeed(hosts.roll_back())
    assert hosts.running() == ["kvm1"]


@pytest.mark.parametrize(
    ("here", "there"),
    [("running", "running"), ("absent", "absent"), ("paused", "arriving"), ("absent", "unreachable")],
)
def test_what_cannot_be_told_is_reported_with_what_both_hosts_say(hosts: TwoFakeHosts, here: str, there: str) -> None:
    hosts.kvm2.succeed(hosts.prepare())

    def confuse(passage: FakePassage) -> None:
        come = passage.arrive()
        if here == "absent":
            passage.leave()
        else:
            passage.machine.standing = here  # type: ignore[assignment]
            passage.machine.by_migration = here == "paused"
        if there == "absent":
            del hosts.kvm2.domains.machines[come.uuid]
        elif there == "unreachable":
            del hosts.kvm1.domains.peers["kvm2"]
        else:
            come.standing = there  # type: ignore[assignment]
        raise LibvirtTimeout("lost")

    hosts.kvm1.domains.on_send = confuse
    reply = hosts.kvm1.run(hosts.send())
    assert code(reply) == "migration-unknown"
    assert isinstance(reply, Failure)
    assert reply.retry == "uncertain"
    assert str(reply.facts["on_source"]).startswith(here)
    assert str(reply.facts["on_destination"]).startswith("not known" if there == "unreachable" else there)
    before = {name: dict(host.domains.machines) for name, host in (("1", hosts.kvm1), ("2", hosts.kvm2))}
    assert isinstance(hosts.kvm1.run(hosts.finish()), Failure)
    nowhere = (here, there) == ("absent", "absent")  # then there is nothing that could run twice
    assert isinstance(hosts.kvm1.run(hosts.roll_back()), Success if nowhere else Failure)
    assert {"1": hosts.kvm1.domains.machines, "2": hosts.kvm2.domains.machines} == before
    assert hosts.attached() == {one.global_id: [1, 2] for one in hosts.volumes}


def test_a_guest_that_was_switched_off_on_the_way_has_not_moved(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())

    def switch_off(passage: FakePassage) -> None:
        passage.source.stop(passage.machine.uuid)
        raise MigrationFailed("domain is not running")

    hosts.kvm1.domains.on_send = switch_off
    assert code(hosts.kvm1.run(hosts.send())) == "vm-not-running"
    hosts.kvm2.succeed(hosts.roll_back())
    hosts.kvm1.succeed(hosts.roll_back())
    assert hosts.only_at(1)


# the end


def test_the_source_gives_up_nothing_before_the_machine_is_seen_to_run_there(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    assert code(hosts.kvm1.run(hosts.finish())) == "migration-not-found"
    hosts.kvm1.domains.fail("send", MigrationFailed("no"))
    hosts.kvm1.run(hosts.send())
    assert code(hosts.kvm1.run(hosts.finish())) == "migration-under-way"
    hosts.kvm1.succeed(hosts.send())
    del hosts.kvm1.domains.peers["kvm2"]
    assert code(hosts.kvm1.run(hosts.finish())) == "destination-unreachable"
    assert hosts.attached() == {one.global_id: [1, 2] for one in hosts.volumes}


def test_a_source_whose_libvirt_is_away_says_so_and_gives_up_nothing(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.succeed(hosts.send())
    hosts.kvm1.domains.fail("standing", LibvirtUnavailable("libvirtd is being restarted"))
    failure = hosts.kvm1.fail(hosts.finish())
    assert (failure.code, failure.retry) == ("libvirt-unavailable", "retryable")
    assert hosts.attached() == {one.global_id: [1, 2] for one in hosts.volumes}


def test_the_source_keeps_volumes_that_no_other_host_has(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.succeed(hosts.send())
    del hosts.kvm1.storpool.attached[hosts.volumes[0].global_id, 2]
    assert code(hosts.kvm1.run(hosts.finish())) == "migration-unknown"
    assert code(hosts.kvm2.run(hosts.finish())) == "migration-unknown"


def test_the_source_forces_no_device_that_is_open(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.succeed(hosts.send())
    hosts.kvm1.storpool.openers[hosts.volumes[1].global_id] = [Holder(kind="process", name="dd", pid=4)]
    assert code(hosts.kvm1.run(hosts.finish())) == "volume-busy"
    assert hosts.attached() == {hosts.volumes[0].global_id: [2], hosts.volumes[1].global_id: [1, 2]}
    hosts.kvm1.storpool.openers.clear()
    hosts.kvm1.succeed(hosts.finish())
    assert hosts.only_at(2)


def test_the_source_removes_what_stands_still_here_when_it_runs_there(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())

    def lose(passage: FakePassage) -> None:
        passage.arrive("running")
        passage.stand_still()

    hosts.kvm1.domains.on_send = lose
    hosts.kvm1.succeed(hosts.send())
    assert hosts.vm in hosts.kvm1.domains.machines
    hosts.kvm1.succeed(hosts.finish())
    assert hosts.vm not in hosts.kvm1.domains.machines
    assert hosts.only_at(2)


def test_a_destination_where_it_stands_still_or_misses_a_disk_does_not_call_it_finished(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    assert code(hosts.kvm2.run(hosts.finish())) == "migration-under-way"
    hosts.kvm1.succeed(hosts.send())
    there = hosts.kvm2.domains.machines[hosts.vm]
    there.standing = "paused"
    assert code(hosts.kvm2.run(hosts.finish())) == "migration-unknown"
    there.standing = None
    gone = there.live.pop("vdb")
    assert code(hosts.kvm2.run(hosts.finish())) == "migration-unknown"
    there.live["vdb"] = gone
    hosts.kvm2.succeed(hosts.finish())


def test_a_roll_back_detaches_what_the_migration_attached_and_nothing_else(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(ConnectPhysicalDisk(volume=f"~{hosts.volumes[0].global_id}", purpose="migration"))
    prepared = hosts.kvm2.succeed(hosts.prepare())
    assert [one.attached_now for one in prepared.disks] == [False, True]
    assert hosts.kvm2.succeed(hosts.roll_back()).detached == [hosts.volumes[1].global_id]
    assert hosts.attached() == {hosts.volumes[0].global_id: [1, 2], hosts.volumes[1].global_id: [1]}


def test_a_machine_that_has_come_is_not_rolled_back(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.succeed(hosts.send())
    assert code(hosts.kvm2.run(hosts.roll_back())) == "migration-completed"
    assert code(hosts.kvm1.run(hosts.roll_back())) == "migration-completed"
    hosts.kvm2.succeed(hosts.finish())
    assert code(hosts.kvm2.run(hosts.roll_back())) == "migration-completed"


@pytest.mark.parametrize("standing", ["arriving", "leaving"])
def test_a_migration_that_is_under_way_is_not_rolled_back(hosts: TwoFakeHosts, standing: Any) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    hosts.kvm1.domains.fail("send", MigrationFailed("no"))
    hosts.kvm1.run(hosts.send())
    if standing == "leaving":
        hosts.machine.standing = standing
        assert code(hosts.kvm1.run(hosts.roll_back())) == "migration-under-way"
    else:
        hosts.kvm2.domains.add(FakeMachine(hosts.machine.name, uuid=hosts.vm, standing=standing))
        assert code(hosts.kvm2.run(hosts.roll_back())) == "migration-under-way"


def test_after_its_end_no_command_of_a_migration_begins_anything(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.roll_back())
    hosts.kvm1.succeed(hosts.roll_back())
    assert code(hosts.kvm2.run(hosts.prepare())) == "migration-over"
    assert code(hosts.kvm1.run(hosts.send())) == "migration-over"
    assert code(hosts.kvm2.run(hosts.finish())) == "migration-over"
    assert hosts.kvm2.succeed(hosts.roll_back()).detached == []
    assert hosts.only_at(1)


def test_a_migration_is_of_one_machine_and_of_one_end(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    other = hosts.kvm1.machine()
    assert code(hosts.kvm2.run(hosts.prepare(vm=other.uuid))) == "invalid-command"
    assert code(hosts.kvm2.run(hosts.send(destination="kvm1"))) == "invalid-command"
    hosts.kvm1.succeed(hosts.send())
    assert code(hosts.kvm1.run(hosts.prepare(source="kvm2"))) == "invalid-command"


# what others may do meanwhile


def others(hosts: TwoFakeHosts) -> list[Any]:
    volume = f"~{hosts.volumes[0].global_id}"
    return [
        ConnectPhysicalDisk(volume=volume, purpose="migration"),
        DisconnectPhysicalDisk(volume=volume),
        DisconnectPhysicalDisk(volume=volume, force=True, reason="now"),
        StorpoolResize(volume=volume, new_size_bytes=2 << 20),
        FenceVolumes(volumes=[volume], confirm_fenced=True, reason="now"),
    ]


def of_the_machine(hosts: TwoFakeHosts) -> list[Any]:
    volume, other = f"~{hosts.volumes[0].global_id}", hosts.kvm1.storpool.add()
    return [
        AttachDisk(vm=hosts.vm, volume=f"~{other.global_id}"),
        DetachDisk(vm=hosts.vm, volume=volume),
        SetDiskQos(vm=hosts.vm, volume=volume, iotune=IoTune(total_iops_sec=5)),
    ]


def refused(host: FakeHost, commands: list[Any]) -> set[str]:
    return {code(host.run(command)) for command in commands}


def test_while_a_ticket_is_open_nobody_else_changes_the_machine_or_its_volumes(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    assert refused(hosts.kvm2, others(hosts)) == {"migration-under-way"}
    hosts.kvm1.domains.fail("send", MigrationFailed("no"))
    hosts.kvm1.run(hosts.send())
    assert refused(hosts.kvm1, [*others(hosts), *of_the_machine(hosts)]) == {"migration-under-way"}
    assert hosts.attached() == {one.global_id: [1, 2] for one in hosts.volumes}
    hosts.kvm2.succeed(hosts.roll_back())
    hosts.kvm1.succeed(hosts.roll_back())
    hosts.kvm1.succeed(StorpoolResize(volume=f"~{hosts.volumes[0].global_id}", new_size_bytes=2 << 20))


def test_a_second_migration_of_the_machine_waits_for_the_end_of_the_first(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    assert code(hosts.kvm2.run(hosts.prepare(migration=uuid4()))) == "migration-under-way"
    hosts.kvm1.domains.fail("send", MigrationFailed("no"))
    hosts.kvm1.run(hosts.send())
    assert code(hosts.kvm1.run(hosts.send(migration=uuid4()))) == "migration-under-way"


def test_other_machines_and_volumes_are_not_kept_waiting(hosts: TwoFakeHosts) -> None:
    hosts.kvm2.succeed(hosts.prepare())
    volume = hosts.kvm2.storpool.add()
    machine = hosts.kvm2.machine()
    hosts.kvm2.succeed(AttachDisk(vm=machine.uuid, volume=f"~{volume.global_id}"))
    assert hosts.kvm2.storpool.attached[volume.global_id, 2].mode == "rw"


# encrypted disks


@pytest.fixture
def encrypted(hosts: TwoFakeHosts) -> str:
    """The DATA disk is; its global id. The source's libvirt has its secret, as attachDisk has given it."""
    volume = hosts.volumes[1]
    hosts.kvm1.storpool.volumes[volume.global_id] = replace(volume, size_bytes=6 << 20, tags={"sp-luks": "luks1"})
    os.pwrite(hosts.kvm1.storpool.disk(volume.global_id), header(b"geheim"), 0)
    hosts.kvm1.domains.secrets[secret_uuid(volume.global_id)] = b"geheim"
    return volume.global_id


def with_key(hosts: TwoFakeHosts, key: Key | None) -> Any:
    root, data = (f"~{one.global_id}" for one in hosts.volumes)
    encryption = Encryption(key=key) if key else None
    return hosts.prepare(disks=[MigrationDisk(volume=root), MigrationDisk(volume=data, encryption=encryption)])


def test_the_secret_of_an_encrypted_disk_moves_with_the_machine(hosts: TwoFakeHosts, encrypted: str) -> None:
    hosts.kvm2.succeed(with_key(hosts, Key(secret=SecretStr("geheim"))))
    assert hosts.kvm2.domains.secrets == {secret_uuid(encrypted): b"geheim"}
    hosts.kvm1.succeed(hosts.send())
    hosts.kvm2.succeed(hosts.finish())
    hosts.kvm1.succeed(hosts.finish())
    assert (hosts.kvm1.domains.secrets, hosts.kvm2.domains.secrets) == ({}, {secret_uuid(encrypted): b"geheim"})
    assert hosts.only_at(2)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        pytest.param(None, "key-required", id="none"),
        pytest.param(Key(file="nothing"), "key-not-found", id="one that is not there"),
        pytest.param(Key(secret=SecretStr("wrong")), "wrong-key", id="another volume's"),
    ],
)
def test_a_destination_without_the_right_key_takes_nothing(
    hosts: TwoFakeHosts, encrypted: str, key: Key | None, expected: str
) -> None:
    assert code(hosts.kvm2.run(with_key(hosts, key))) == expected
    assert hosts.only_at(1)
    assert hosts.kvm2.domains.secrets == {}
    assert hosts.kvm2.journal.tickets.get(str(MIGRATION)) is None


def test_a_roll_back_has_libvirt_forget_the_secret(hosts: TwoFakeHosts, encrypted: str) -> None:
    hosts.kvm2.succeed(with_key(hosts, Key(secret=SecretStr("geheim"))))
    hosts.kvm2.succeed(hosts.roll_back())
    assert hosts.kvm2.domains.secrets == {}
    assert hosts.kvm1.domains.secrets == {secret_uuid(encrypted): b"geheim"}
