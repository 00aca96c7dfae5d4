# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Several operations at once: on one machine in turn, on different ones side by side."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from domains_contract import disk, soon
from real_lab import RealLab
from storpool_agent.errors import DiskInUseByVm, UnplugPending

pytestmark = pytest.mark.long


def test_ten_plugs_into_one_machine_take_ten_targets(lab: RealLab) -> None:
    vm = lab.machine(slots=10)
    devices = [lab.device() for _ in range(10)]
    with ThreadPoolExecutor(10) as workers:
        plugged = list(workers.map(lambda n: lab.domains.plug(vm, disk(devices[n], f"ua-{n}"), soon()), range(10)))
    assert sorted(each.target for each in plugged) == [f"vd{letter}" for letter in "abcdefghij"]
    assert len({each.address for each in plugged}) == 10
    assert all(each.live and each.config for each in plugged)


def test_ten_plugs_of_one_device_leave_it_in_one_machine(lab: RealLab) -> None:
    machines, device = [lab.machine() for _ in range(3)], lab.device()

    def plug(n: int) -> bool:
        try:
            lab.domains.plug(machines[n % 3], disk(device), soon())
        except DiskInUseByVm:
            return False
        return True

    with ThreadPoolExecutor(10) as workers:
        results = list(workers.map(plug, range(10)))
    assert 3 <= results.count(True) <= 4
    assert len({there.domain.uuid for there in lab.domains.having([device], soon()) if there.live}) == 1


def test_paused_guests_do_not_hold_up_other_machines(lab: RealLab) -> None:
    """libvirtd works on five calls of one connection at a time; here are more that get no answer."""
    paused = [lab.machine() for _ in range(6)]
    plugged = [lab.domains.plug(vm, disk(lab.device(), f"ua-{n}"), soon()) for n, vm in enumerate(paused)]
    other, device = lab.machine(), lab.device()
    for vm in paused:
        lab.silence(vm)

    def unplug(n: int) -> None:
        with pytest.raises(UnplugPending):
            lab.domains.unplug(paused[n], plugged[n], 6, soon())

    with ThreadPoolExecutor(6) as workers:
        pending = [workers.submit(unplug, n) for n in range(6)]
        lab.domains.plug(other, disk(device), soon())
        assert not any(each.done() for each in pending)
        for each in pending:
            each.result(60)
