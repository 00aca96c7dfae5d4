# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A dry run of a migration leaves machine and disk as they are, and goes on as if the disk had moved."""

from dataclasses import replace

from domains_contract import copy, disk, soon, to
from fake_storpool import FakeStorPool
from fakes import FakeDevices
from fakes_domains import FakeDomains, FakeMachine
from storpool_agent.dry_run.devices import DryDevices
from storpool_agent.dry_run.domains import DryDomains


def test_nothing_is_copied_and_the_old_disk_counts_as_let_go() -> None:
    real = FakeDomains()
    machine = real.add(FakeMachine("vm"))
    plugged = real.plug(machine, disk("/dev/storpool/old"), soon())
    real.sizes["/dev/storpool/old"] = 7
    dry = DryDomains(real, DryDevices(FakeDevices(FakeStorPool())))
    assert dry.capacity(plugged, soon()) == 7
    dry.mirror(plugged, to("/dev/storpool/new"), copy(), soon())
    assert dry.pivot(plugged, to("/dev/storpool/new"), soon()) == replace(plugged, path="/dev/storpool/new")
    dry.end_mirror(machine.uuid, "/dev/storpool/new", soon())
    assert dry.having(["/dev/storpool/old"], soon()) == []
    assert real.having(["/dev/storpool/old"], soon()) == [plugged]
