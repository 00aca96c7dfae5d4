# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine is sent from one libvirtd to another, and one of them dies: it never runs on both, and is found again."""

from collections.abc import Iterator

import pytest

from migration.moments import before_finish, wait_for_the_middle
from moving_lab import Move, MovingLab, moving_lab, soon
from real_lab import background, wait_for
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Platform
from storpool_agent.errors import Cancelled, LibvirtTimeout, LibvirtUnavailable
from storpool_agent.handlers.verdicts import Verdict
from storpool_agent.interrupt import AgentStopping
from storpool_agent.migration_errors import CpuIncompatible, DestinationUnreachable, MigrationFailed, MigrationUnknown

pytestmark = pytest.mark.long

LOST = (LibvirtTimeout, LibvirtUnavailable, MigrationFailed, DestinationUnreachable)
SETTLED_S = 40.0


@pytest.fixture(scope="module")
def lab(services: None) -> Iterator[MovingLab]:
    with moving_lab() as made:
        yield made


def test_it_arrives_standing_still_and_goes_on_when_it_is_told_to(lab: MovingLab) -> None:
    move = Move(lab)
    assert move.run()
    assert move.begun.is_set()
    wait_for(lambda: lab.words() == ("absent", "paused"), SETTLED_S)
    assert lab.verdict() is Verdict.START_THERE
    sent = lab.here.domains.sent(lab.vm, lab.there.name, soon())
    assert None not in (sent.memory_bytes, sent.downtime_ms, sent.total_ms)
    lab.arrived()
    assert lab.words() == ("running", "absent")


def test_what_another_host_needs_is_read_off_the_machine(lab: MovingLab) -> None:
    seen = lab.here.domains.portray(lab.vm, soon())
    assert (seen.domain.name, seen.paused, seen.domain_type) == (lab.guest.name, False, "qemu")
    lab.there.domains.refuse_misfit(Platform("qemu", seen.arch, seen.machine_type, seen.cpu), soon())
    strange = "<cpu mode='custom' match='exact'><model fallback='forbid'>EPYC-Milan</model></cpu>"
    with pytest.raises(CpuIncompatible):
        lab.there.domains.refuse_misfit(Platform("qemu", seen.arch, seen.machine_type, strange), soon())


def test_one_that_is_cancelled_stays(lab: MovingLab) -> None:
    move = Move(lab, slow=True)
    with background(move.run) as sending:
        wait_for_the_middle(lab.here.host, lab.vm)
        wait_for(lambda: bool(move.reports), SETTLED_S)
        move.interrupt.set(Cancelled("by a test"))
        with pytest.raises(Cancelled):
            sending.result(SETTLED_S)
    wait_for(lambda: lab.words() == ("running", "absent"), SETTLED_S)


def test_one_that_is_under_way_is_gone_on_with(lab: MovingLab) -> None:
    first, second = Move(lab, slow=True), Move(lab, slow=True)
    with background(first.run) as sending:
        wait_for_the_middle(lab.here.host, lab.vm)
        second.run()
        sending.result(SETTLED_S)
    assert second.begun.is_set()
    wait_for(lambda: lab.words() == ("absent", "paused"), SETTLED_S)
    lab.arrived()


def test_the_agents_stop_ends_it(lab: MovingLab) -> None:
    move = Move(lab, slow=True)
    with background(move.run) as sending:
        wait_for_the_middle(lab.here.host, lab.vm)
        move.interrupt.set(AgentStopping())
        with pytest.raises(AgentStopping):
            sending.result(SETTLED_S)
    wait_for(lambda: lab.words() == ("running", "absent"), SETTLED_S)


def test_a_source_that_dies_in_the_middle_keeps_it(lab: MovingLab) -> None:
    with background(Move(lab, slow=True).run) as sending:
        wait_for_the_middle(lab.here.host, lab.vm)
        lab.here.host.libvirtd.kill()
        lab.here.host.libvirtd.start()
        with pytest.raises(LOST):
            sending.result(SETTLED_S)
    wait_for(lambda: lab.words() == ("running", "absent"), SETTLED_S)


def test_a_destination_that_dies_in_the_middle_gets_nothing(lab: MovingLab) -> None:
    with background(Move(lab, slow=True).run) as sending:
        wait_for_the_middle(lab.here.host, lab.vm)
        lab.there.host.libvirtd.kill()
        with pytest.raises(LOST):
            sending.result(SETTLED_S)
        lab.there.host.libvirtd.start()
    wait_for(lambda: lab.words() == ("running", "absent"), SETTLED_S)


def test_a_destination_that_dies_when_all_is_sent_gets_nothing(lab: MovingLab) -> None:
    with background(Move(lab, slow=True).run) as sending:
        with before_finish(lab.here.host, lab.there.host, lab.vm):
            lab.there.host.libvirtd.kill()
        lab.there.host.libvirtd.start()
        with pytest.raises(LOST):
            sending.result(SETTLED_S)
    wait_for(lambda: lab.words() == ("running", "absent"), SETTLED_S)


def test_a_source_that_dies_when_all_is_sent_leaves_it_standing_still(lab: MovingLab) -> None:
    """On both: what is here is removed with the proof that all of it is there, and then it goes on there."""
    with background(Move(lab, slow=True).run) as sending:
        with before_finish(lab.here.host, lab.there.host, lab.vm):
            lab.here.host.libvirtd.hang()
        wait_for(lambda: lab.there.domains.standing(lab.vm, soon()).standing == "paused", SETTLED_S)
        lab.here.host.libvirtd.kill()
        lab.here.host.libvirtd.start()
        with pytest.raises(LOST):
            sending.result(SETTLED_S)
    wait_for(lambda: lab.words() == ("paused", "paused"), SETTLED_S)
    assert lab.standings()[0].by_migration
    assert lab.verdict() is Verdict.DROP_HERE
    lab.here.domains.remove(lab.vm, soon())
    assert lab.verdict() is Verdict.START_THERE
    lab.arrived()
    assert lab.words() == ("running", "absent")


def test_both_die_when_all_is_sent_and_it_goes_on_where_it_was(lab: MovingLab) -> None:
    with background(Move(lab, slow=True).run) as sending:
        with before_finish(lab.here.host, lab.there.host, lab.vm):
            lab.here.host.libvirtd.kill()
            lab.there.host.libvirtd.kill()
        lab.here.host.libvirtd.start()
        lab.there.host.libvirtd.start()
        with pytest.raises(LOST):
            sending.result(SETTLED_S)
    wait_for(lambda: lab.verdict() is Verdict.STRANDED, SETTLED_S)
    lab.here.domains.resume(lab.vm, soon())
    assert lab.words() == ("running", "absent")


def test_nothing_that_runs_is_removed(lab: MovingLab) -> None:
    with pytest.raises(MigrationUnknown):
        lab.here.domains.remove(lab.vm, soon())
    assert lab.words() == ("running", "absent")


def test_a_libvirt_that_hangs_is_not_waited_for(lab: MovingLab) -> None:
    lab.there.host.libvirtd.hang()
    try:
        with pytest.raises(DestinationUnreachable, match="has not answered in time"):
            lab.here.domains.standing(lab.vm, Deadline.after(0.5), peer=lab.there.name)
    finally:
        lab.there.host.libvirtd.go_on()


def test_a_host_that_the_settings_do_not_name_is_not_looked_for(lab: MovingLab) -> None:
    with pytest.raises(DestinationUnreachable, match=r"\[migration\] uris"):
        lab.here.domains.standing(lab.vm, soon(), peer="elsewhere")
