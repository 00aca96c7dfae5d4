# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever has frozen a guest, and whatever became of it: the guest is thawed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from time import monotonic, time

import pytest

from fakes_domains import FakeDomains, FakeMachine
from storpool_agent import thaws
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Domain
from storpool_agent.errors import GuestAgentUnavailable, LibvirtUnavailable
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.thaws import PendingThaw
from storpool_agent.thaws import Thaws

LATER_S = 1000.0
SOON_S = 1.0
"""Longer than a commit takes on a busy machine."""


@pytest.fixture
def domains() -> FakeDomains:
    return FakeDomains()


def frozen(domains: FakeDomains) -> FakeMachine:
    machine = FakeMachine(f"vm-{len(domains.machines)}", guest_agent=True, frozen=True)
    domains.add(machine)
    return machine


def expect(journal: Journal, machine: FakeMachine, within_s: float) -> PendingThaw:
    pending = PendingThaw(machine.uuid, "request", time() + within_s)
    journal.thaws.expect(pending)
    return pending


def wait_for(reached: Callable[[], bool]) -> None:
    give_up = monotonic() + 10
    while not reached():
        assert monotonic() < give_up
        Event().wait(0.005)


@contextmanager
def running(domains: FakeDomains, journal: Journal) -> Iterator[Thaws]:
    watch = Thaws(domains, journal)
    watch.start()
    yield watch
    watch.stop()


def test_what_an_earlier_run_left_is_thawed_before_the_start_goes_on(domains: FakeDomains, journal: Journal) -> None:
    machines = [frozen(domains), frozen(domains)]
    for machine in machines:
        expect(journal, machine, LATER_S)
    with running(domains, journal):
        assert [machine.frozen for machine in machines] == [False, False]
        assert journal.thaws.pending() == []


def test_a_machine_that_is_off_or_gone_is_forgotten(domains: FakeDomains, journal: Journal) -> None:
    off, gone = frozen(domains), frozen(domains)
    for machine in (off, gone):
        expect(journal, machine, LATER_S)
    domains.stop(off.uuid)
    del domains.machines[gone.uuid]
    with running(domains, journal):
        assert journal.thaws.pending() == []


def test_it_is_tried_again_until_it_can_be(domains: FakeDomains, journal: Journal) -> None:
    machine = frozen(domains)
    expect(journal, machine, LATER_S)
    domains.fail("thaw", LibvirtUnavailable("away"), GuestAgentUnavailable("paused"))
    with running(domains, journal):
        wait_for(lambda: not journal.thaws.pending())
        assert not machine.frozen


def test_the_start_does_not_wait_for_ever(
    domains: FakeDomains, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thaws, "START_PATIENCE_S", 0.01)
    machine = frozen(domains)
    expect(journal, machine, LATER_S)
    domains.fail("thaw", LibvirtUnavailable("away"))
    with running(domains, journal):
        wait_for(lambda: not journal.thaws.pending())
        assert not machine.frozen


def test_a_guest_is_thawed_when_its_time_is_over(domains: FakeDomains, journal: Journal) -> None:
    with running(domains, journal):
        machine = frozen(domains)
        expect(journal, machine, 0.02)
        wait_for(lambda: not machine.frozen)
        wait_for(lambda: not journal.thaws.pending())


def test_a_guest_that_was_thawed_in_time_is_left_alone(
    domains: FakeDomains, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def thaw(domain: Domain, deadline: Deadline) -> bool:
        asked.append(domain.uuid)
        return True

    monkeypatch.setattr(domains, "thaw", thaw)
    with running(domains, journal):
        machine = frozen(domains)
        pending = expect(journal, machine, SOON_S)
        journal.thaws.settle(pending)
        marker = frozen(domains)
        expect(journal, marker, SOON_S)  # later than the first, so that its turn has passed
        wait_for(lambda: not journal.thaws.pending())
    assert asked == [marker.uuid]


def test_a_guest_that_was_frozen_again_has_its_new_time(domains: FakeDomains, journal: Journal) -> None:
    machine = frozen(domains)
    first = expect(journal, machine, 0.02)
    second = expect(journal, machine, LATER_S)
    journal.thaws.settle(first)
    assert journal.thaws.of(machine.uuid) == second


def test_a_stop_thaws_what_is_frozen(domains: FakeDomains, journal: Journal) -> None:
    with running(domains, journal):
        machine = frozen(domains)
        expect(journal, machine, LATER_S)
    assert (machine.frozen, journal.thaws.pending()) == (False, [])


def test_what_a_stop_could_not_thaw_is_left_to_the_next_start(domains: FakeDomains, journal: Journal) -> None:
    with running(domains, journal):
        machine = frozen(domains)
        expect(journal, machine, LATER_S)
        domains.fail("thaw", LibvirtUnavailable("away"))
    assert (machine.frozen, [one.vm for one in journal.thaws.pending()]) == (True, [machine.uuid])
    with running(domains, journal):
        assert (machine.frozen, journal.thaws.pending()) == (False, [])
