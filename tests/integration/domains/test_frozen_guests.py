# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a guest that is frozen, or whose agent hangs, does to the rest."""

from dataclasses import replace

import pytest

from domains_contract import disk, soon
from guest import Guest
from real_lab import RealLab, wait_for
from storpool_agent.deadline import Deadline
from storpool_agent.errors import GuestAgentUnavailable, VmBusy

pytestmark = pytest.mark.long

HANGS_S = 2.0
LATER_S = 30.0


def guest_of(lab: RealLab, uuid: str) -> Guest:
    guest = lab.machines[uuid]
    assert isinstance(guest, Guest)
    return guest


def test_a_frozen_guest_writes_nothing_until_it_is_thawed(lab: RealLab) -> None:
    machine = lab.guest_with_agent()
    guest = guest_of(lab, machine.uuid)
    guest.wait_for_files({"vda": 2})
    lab.domains.freeze(machine, soon())
    before = guest.files("vda")
    started = guest.uptime_s()
    wait_for(lambda: guest.uptime_s() > started + 1, LATER_S)
    # One file may have been on the disk, and not yet counted.
    assert guest.files("vda") <= before + 1
    assert lab.domains.thaw(machine, soon())
    guest.wait_for_files({"vda": before + 1})


def test_a_paused_guest_stays_frozen_and_is_not_called_thawed(lab: RealLab) -> None:
    machine = lab.guest_with_agent()
    lab.domains.freeze(machine, soon())
    lab.silence(machine)
    with pytest.raises(GuestAgentUnavailable):
        lab.domains.thaw(machine, soon())
    lab.wake(machine)
    assert lab.domains.thaw(machine, soon()) is True


def test_an_agent_that_hangs_keeps_nothing_else_waiting(lab: RealLab) -> None:
    machine = lab.guest_with_agent()
    guest = guest_of(lab, machine.uuid)
    guest.pause_agent()
    with pytest.raises(GuestAgentUnavailable):
        lab.domains.freeze(machine, Deadline.after(HANGS_S))
    plugged = lab.domains.plug(machine, replace(disk(lab.device()), config=False), soon())
    lab.domains.unplug(machine, plugged, LATER_S, soon())
    guest.resume_agent()
    wait_for(lambda: froze(lab, machine.uuid), LATER_S)
    assert lab.domains.thaw(machine, soon()) is True


def froze(lab: RealLab, uuid: str) -> bool:
    """False while libvirt still waits for an answer to what was asked before."""
    try:
        lab.domains.freeze(lab.domains.find(uuid, soon()), soon())
    except (VmBusy, GuestAgentUnavailable):
        return False
    return True
