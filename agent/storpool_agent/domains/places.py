# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where in a machine a disk can go: a target that is free both now and at its next start, a unit for SCSI."""

from collections.abc import Iterator
from itertools import count, product
from string import ascii_lowercase

from storpool_agent.domains.machine import Machine
from storpool_agent.domains.model import Disk
from storpool_agent.errors import NoHotplugSlot, TargetTaken

PREFIX = {"virtio": "vd", "scsi": "sd"}

Place = tuple[str, tuple[int, int] | None]


def choose(machine: Machine, disk: Disk, same_as_there: str | None) -> Place:
    """The target, and for SCSI the controller and unit. A free PCI slot is libvirt's to find, and to refuse.

    `same_as_there` is the target of the half that the machine has already: running or configured.
    """
    target = same_as_there or _target(machine, disk)
    return target, _scsi_unit(machine) if disk.bus == "scsi" else None


def _target(machine: Machine, disk: Disk) -> str:
    taken = machine.targets()
    if disk.target is None:
        return next(name for name in _names(PREFIX[disk.bus]) if name not in taken)
    if disk.target in taken:
        raise TargetTaken(
            f"{machine.domain.name} has another disk at {disk.target}; leave target out, or name a free one",
            vm=machine.domain.uuid,
            target=disk.target,
        )
    return disk.target


def _names(prefix: str) -> Iterator[str]:
    for length in (1, 2, 3):
        for letters in product(ascii_lowercase, repeat=length):
            yield prefix + "".join(letters)


def _scsi_unit(machine: Machine) -> tuple[int, int]:
    controllers = machine.scsi_controllers()
    if not controllers:
        raise NoHotplugSlot(
            f"{machine.domain.name} has no SCSI controller; give it one, or use bus virtio", vm=machine.domain.uuid
        )
    controller = min(controllers)
    taken = machine.scsi_units(controller)
    return controller, next(unit for unit in count() if unit not in taken)
